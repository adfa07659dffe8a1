"""CSV by RFC 4180, on bytes: where records end, and which fields one record has.

A field that starts with a quote goes on to the closing quote, over commas and line ends. A quote anywhere
else is an ordinary character. Both directions use this one reading, so that what is framed can be parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Possessive throughout: one pass, no backtracking, whatever a record contains.
_FIELD = re.compile(rb'(?:"(?:[^"]++|"")*+"|[^",][^,]*+|)(?:,|\Z)')
_QUOTED = re.compile(rb'(?:\A|(?<=[,\r]))"(?:[^"]++|"")*+(?:"|\Z)')
_INSIDE = re.compile(rb'(?:[^"]++|"")*+')
_TEXT_FIELD = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",][^,]*+|))(,|\Z)')


def csv_records(body: bytes, is_whole: bool = True) -> Iterator[tuple[int, bytes]]:
    """Each record below the header line of its file, by its number. A file that broke off loses its last
    line:
    nobody could tell a value that was cut from one that was not."""
    end = line_end(body)
    if not is_whole:
        body = body[: body.rfind(end) + 1]
    header: bytes | None = None
    number = 0
    for record in _records(body, end):
        if header is None:
            header = record + b"\n"
            continue
        yield number, header + record
        number += 1


def line_end(body: bytes) -> bytes:
    """What ends the lines of a file: a line feed, or where its header line has carriage returns, these alone, as
    spreadsheets on a Mac write them. A quoted one is part of a name."""
    at = body.find(b"\n")
    if at < 0:
        return b"\r" if b"\r" in body else b"\n"
    first = body[:at].rstrip(b"\r")
    return b"\r" if b"\r" in first and b"\r" in _QUOTED.sub(b"", first) else b"\n"


def _records(body: bytes, line_end: bytes) -> Iterator[bytes]:
    lines = body.split(line_end)
    at = 0
    while at < len(lines):
        line, end = lines[at], at + 1
        if b'"' in line and _stays_open(_stripped(line), False):
            while end < len(lines) and _stays_open(_stripped(lines[end]), True):
                end += 1
            # A quote that never closes must not swallow the file, nor the good lines up to another one's quote: that
            # line alone is a (malformed) record. No line is read often: each quote ends what is open before it.
            joined = line_end.join(lines[at : end + 1])
            is_closed = end < len(lines) and csv_fields(_stripped(joined).decode("latin-1")) is not None
            end = end + 1 if is_closed else at + 1
            line = joined if is_closed else line
        record = _stripped(line)
        if record and not record.isspace():
            yield record
        at = end


def _stripped(line: bytes) -> bytes:
    """Without what is left of its end: a carriage return, or two, or the line feed of another end."""
    return line.strip(b"\n").rstrip(b"\r") if line[-1:] == b"\r" or b"\n" in line else line


def _stays_open(line: bytes, is_open: bool) -> bool:
    """Whether a quoted field is open at the end of the line, given whether one was at its start."""
    at = 0
    if is_open:
        inside = _INSIDE.match(line)
        at = inside.end() if inside else 0
        if at == len(line):
            return True
        at += 1
        if at == len(line):
            return False
        if line[at : at + 1] != b",":
            return False
        at += 1
    while at < len(line):
        field = _FIELD.match(line, at)
        if (
            field is None
        ):  # only a field that starts with a quote can fail: it is open, or followed by rubbish
            inside = _INSIDE.match(line, at + 1)
            return inside is not None and inside.end() == len(line)
        at = field.end()
    return False


def csv_fields(record: str) -> list[str] | None:
    """The fields of one record; None when its quoting is broken."""
    if '"' not in record:
        return record.split(",")
    fields: list[str] = []
    at = 0
    while found := _TEXT_FIELD.match(record, at):
        quoted, plain, comma = found.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        at = found.end()
        if not comma:
            return fields
    return None


def csv_split(payload: str) -> tuple[str, str]:
    """Header and record of a payload, as it was framed."""
    header, _, record = payload.partition("\n")
    if '"' in header:
        lines, end = payload.split("\n"), 1
        is_open = _stays_open(lines[0].encode(), False)
        while is_open and end < len(lines):
            is_open = _stays_open(lines[end].encode(), True)
            end += 1
        header, record = "\n".join(lines[:end]), "\n".join(lines[end:])
    return header, record


def unique_names(names: Iterable[str]) -> list[str]:
    """The columns' names; one that is empty or there already is named after its place, to keep its values."""
    unique: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        while not name or name in unique:
            name = f"{name or 'column'}_{place}"
        unique[name] = None
    return list(unique)
