"""Cut a landed file into records, byte for byte; interpret nothing.

    name ──► extension ──► gzip? ──► lines │ array elements │ CSV records │ Parquet rows ──► Frame

A frame is the place of a record in its file, how its payload is to be read, and the payload. What cannot
be framed is not dropped: it follows as one frame of its own, and ends in quarantine.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import NamedTuple

from transforms.ingest.framing.csv_frames import csv_records
from transforms.ingest.framing.parquet_frames import Damaged, parquet_rows

FORMATS = ("ndjson", "jsonl", "json", "csv", "parquet")
UNREADABLE_LIMIT = 16 * 2**20  # how much of an unreadable file is kept in quarantine
EXPANDED_LIMIT = 2**30  # a compressed file that grows beyond this is a bomb, or wants to be cut into slices
_CSV_GROWTH = 64  # how many times its file's size CSV records with their headers may have

_BOM = b"\xef\xbb\xbf"
_SLICE = re.compile(r"^(.*)\.slice(\d+)\.[^/.]+$", re.DOTALL)
_OLDER_SLICE = re.compile(r"^(.*)\.rows(\d+)(\.[^/]+)$", re.DOTALL)
_LINES_AT_ONCE = 1000
_NEXT = re.compile(rb"\}[ \t\r]*+\{[ \t\r]*+\"")
_SPACE = re.compile(rb"[ \t\n\r]*")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
# Numbers stay text: nobody reads them here, and turning 5,000 digits into an integer would raise.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


Numbered = tuple[Sequence[int], list[bytes]]  # records by their numbers; at least one
Reader = Callable[[bytes], Iterator[Numbered]]


class Frame(NamedTuple):
    """One record of a file, or (`unreadable`) what is left of a file that cannot be read."""

    ordinal: int
    payload_format: str
    payload: bytes


def origin_of(name: str) -> tuple[str, int]:
    """The file a record comes from and the number of its first record there.

    `part.csv.gz.slice000300.csv` is the slice of `part.csv.gz` that starts at record 300; `part.rows000300.jsonl`, as
    an older program named it, is one of `part.jsonl`.
    """
    if cut := _SLICE.match(name):
        return cut[1], int(cut[2])
    cut = _OLDER_SLICE.match(name)
    return (cut[1] + cut[3], int(cut[2])) if cut else (name, 0)


def slice_name(origin: str, first: int, extension: str) -> str:
    """What the slice of a file is called that starts at record `first`."""
    return f"{origin}.slice{first:09d}.{extension}"


def format_of(name: str) -> tuple[str | None, bool]:
    """The format that the file's extension names (None: unknown), and whether the file is gzipped."""
    stem = name.lower()
    is_gzipped = stem.endswith(".gz")
    _, dot, extension = (stem[:-3] if is_gzipped else stem).rpartition(".")
    return (extension if dot and extension in FORMATS else None), is_gzipped


class Frames(NamedTuple):
    """Records of a file that follow each other, column by column."""

    ordinals: list[int]
    payload_format: str
    payloads: list[bytes]


def frame(name: str, content: bytes) -> Iterator[Frame]:
    """The records of a file. Ordinals of a slice go on where the slice starts in its origin."""
    for ordinals, payload_format, payloads in frames(name, content):
        yield from map(Frame, ordinals, repeat(payload_format), payloads)


def frames(name: str, content: bytes) -> Iterator[Frames]:
    """The same, many at a time where nothing has to be looked for but the ends of lines."""
    if not content:
        return
    ordinal = origin_of(name)[1]
    extension, is_gzipped = format_of(name)
    body, is_whole = _gunzip(content) if is_gzipped else (content, True)
    if extension != "parquet" and body.startswith(_BOM):
        body = body[len(_BOM) :]
    readers: dict[str | None, Reader] = {
        None: _unknown,
        "json": _json_document,
        "csv": lambda body: _singly(_csv(body, is_whole)),
        "parquet": lambda body: _singly(parquet_rows(body)),
    }
    reader = readers.get(extension, _lines)
    payload_format = "csv" if extension == "csv" else "json"
    after = ordinal
    try:
        for numbers, payloads in reader(body):
            after = ordinal + numbers[-1] + 1
            yield Frames([ordinal + number for number in numbers], payload_format, payloads)
    except Damaged:
        is_whole = False
    if not is_whole:
        yield Frames([after], "unreadable", [content[:UNREADABLE_LIMIT]])


def _singly(records: Iterable[tuple[int, bytes]]) -> Iterator[Numbered]:
    for number, payload in records:
        yield [number], [payload]


def _csv(body: bytes, is_whole: bool) -> Iterator[tuple[int, bytes]]:
    """Every record carries the header. A legitimate one has a comma per column, so it is not much shorter; lines of
    two bytes below a header of a mebibyte would fill the disk."""
    left = max(EXPANDED_LIMIT, _CSV_GROWTH * len(body))
    for number, payload in csv_records(body, is_whole):
        left -= len(payload)
        if left < 0:
            raise Damaged
        yield number, payload


def _unknown(body: bytes) -> Iterator[Numbered]:
    raise Damaged
    yield  # a generator like its siblings


def _gunzip(content: bytes) -> tuple[bytes, bool]:
    """What could be decompressed of all members, and whether that is everything."""
    parts: list[bytes] = []
    left, size = content, 0
    while left:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(left, EXPANDED_LIMIT - size + 1)
        except zlib.error:
            # The object swallows what it had decompressed before the error; ask again in small bites.
            parts.append(_gunzip_bites(left, EXPANDED_LIMIT - size))
            return b"".join(parts), False
        parts.append(part)
        size += len(part)
        if not member.eof or size > EXPANDED_LIMIT:
            return b"".join(parts)[:EXPANDED_LIMIT], False
        left = member.unused_data.lstrip(b"\0")  # tape-style padding is not damage
    return b"".join(parts), True


def _gunzip_bites(member_bytes: bytes, limit: int) -> bytes:
    """What comes before the damage, to the last byte: an error takes with it all that its bite held."""
    member, parts, size = zlib.decompressobj(wbits=31), [], 0
    start, bite = 0, 2**16
    while bite and start < len(member_bytes) and size <= limit and not member.eof:
        before = member.copy()
        try:
            parts.append(member.decompress(member_bytes[start : start + bite]))
        except zlib.error:
            member, bite = before, bite // 256
            continue
        size += len(parts[-1])
        start += bite
    return b"".join(parts)[:limit]


def _lines(body: bytes) -> Iterator[Numbered]:
    """Lines by their number; blank ones are counted but are no records. Where the first line has several objects, as
    services write them that put nothing between, each is a record in all of the file, numbered one after the other."""
    has_returns = b"\r" in body
    start = _skip(body, 0)
    first_end = body.find(b"\n", start)
    if _NEXT.search(body, start, len(body) if first_end < 0 else first_end):
        yield from _several_in_a_line(body)
        return
    lines = body.split(b"\n")
    for first in range(0, len(lines), _LINES_AT_ONCE):
        some = lines[first : first + _LINES_AT_ONCE]
        numbers: Sequence[int] = range(first, first + len(some))
        if has_returns:
            some = [line.rstrip(b"\r") for line in some]
        if not all(some) or any(map(bytes.isspace, some)):
            numbers = [
                number for number, line in zip(numbers, some, strict=True) if line and not line.isspace()
            ]
            some = [line for line in some if line and not line.isspace()]
        if some:
            yield numbers, some


def _several_in_a_line(body: bytes) -> Iterator[Numbered]:
    number = -1
    for line in body.split(b"\n"):
        number += 1
        line = line.rstrip(b"\r")
        if not line or line.isspace():
            continue
        objects = _objects(line) if _NEXT.search(line) else None
        for record in objects or [line]:
            yield [number], [record]
            number += 1
        number -= 1


def _objects(line: bytes) -> list[bytes] | None:
    """The objects of a line that is nothing but objects, from a broken one on the rest as one; None for any other."""
    text, at = line.decode("latin-1"), _skip(line, 0)
    found: list[bytes] = []
    while at < len(line):
        if line[at : at + 1] != b"{":
            return None
        end = _end_of_value(line, text, at)
        if end is None:
            return [*found, line[at:]] if found else None
        found.append(line[at:end])
        at = _skip(line, end)
    return found


def _json_document(body: bytes) -> Iterator[Numbered]:
    """A `.json` file: an array of records, records spread over lines, or one record a line."""
    start = _skip(body, 0)
    if body[start : start + 1] == b"[":
        yield from _singly(_array(body, start + 1))
        return
    if body[start : start + 1] == b"{":
        # Structure is ASCII, so Latin-1 text has the bytes' own positions, and costs one byte a character.
        text = body.decode("latin-1")
        end = _end_of_value(body, text, start)
        if end is not None and (_skip(body, end) == len(body) or b"\n" in body[start:end]):
            yield from _singly(_values(body, text, start))
            return
    yield from _lines(body)


def _values(body: bytes, text: str, at: int) -> Iterator[tuple[int, bytes]]:
    """JSON values one after the other, spread over lines as they like."""
    number = 0
    while at < len(body):
        end = _end_of_value(body, text, at)
        if end is None:
            end = len(body.rstrip())
        yield number, body[at:end]
        number, at = number + 1, _skip(body, end)


def _array(body: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """The array's elements; from a broken one on, the rest of the file as one element."""
    text = body.decode("latin-1")
    number, at = 0, _skip(body, at)
    if body[at : at + 1] == b"]":
        at += 1
    else:
        mark = b","
        while mark == b",":
            end = _end_of_value(body, text, at)
            after = len(body) if end is None else _skip(body, end)
            mark = body[after : after + 1]
            if end is None or mark not in (b",", b"]", b""):
                if rest := body[at:].rstrip():
                    yield number, rest
                    return
                break
            yield number, body[at:end]
            number, at = number + 1, _skip(body, after + 1)
        if mark != b"]":
            raise Damaged  # the end is missing, and with it who knows how many elements
    if rest := body[at:].strip():
        yield number, rest


def _skip(body: bytes, at: int) -> int:
    found = _SPACE.match(body, at)
    return found.end() if found else at


def _end_of_value(body: bytes, text: str, at: int) -> int | None:
    """Where the JSON value that starts at `at` ends; None when it is broken."""
    try:
        return _DECODER.raw_decode(text, at)[1]
    except RecursionError:
        return _end_by_brackets(body, at)
    except ValueError:
        return None


def _end_by_brackets(body: bytes, at: int) -> int | None:
    """The same for values too deep for the decoder: by counting brackets outside strings."""
    depth = 0
    for token in _TOKEN.finditer(body, at):
        kind = token[0]
        depth += (kind in b"[{") - (kind in b"]}") if len(kind) == 1 else 0
        if depth == 0:
            return token.end()
    return None
