"""Corrections: payloads that a user gives in place of refused ones, kept in bronze.corrections.

{"source": "native:events", "origin": "part-3.jsonl", "origin_ordinal": 17, "payload": "{…}"}     one JSON line each;
`payload` may be an object as well, and for bytes that are no text there is "payload_base64".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from conf.errors import UserMistake
from conf.tables import BRONZE_CORRECTIONS
from pipelines.lake.live_rows import same_keys
from pipelines.lake.snapshot import Snapshot

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

RECORD = ("source", "origin", "origin_ordinal")
Place = tuple[str, str, int]


class BadCorrections(UserMistake):
    """A file of corrections that cannot be used; the message says file, line, problem and way out."""


@dataclass(frozen=True)
class Corrections:
    """Payloads by the place of their record, and who gave them."""

    author: str
    payloads: Mapping[Place, bytes]

    def as_json(self) -> dict[str, Any]:
        """The corrections as JSON can carry them, payloads in base64."""
        lines = [
            {**dict(zip(RECORD, place, strict=True)), "payload_base64": base64.b64encode(payload).decode()}
            for place, payload in self.payloads.items()
        ]
        return {"author": self.author, "payloads": lines}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Corrections:
        """Read what `as_json` has made."""
        return cls(found["author"], {_place(line): _payload(line) for line in found["payloads"]})


def read_corrections(file: Path, author: str) -> Corrections:
    """The corrections in a file of JSON lines. BadCorrections if one cannot be read or two are of one record."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as e:
        raise BadCorrections(f"{file} cannot be read: {e.strerror}") from None
    payloads: dict[Place, bytes] = {}
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = orjson.loads(text)
            place, payload = _place(line), _payload(line)
        except (ValueError, KeyError, TypeError):
            raise BadCorrections(
                f"{file}, line {number}: must be a JSON object with source, origin, origin_ordinal and payload, as "
                "`stitchlake quarantine show --json` prints them"
            ) from None
        if place in payloads:
            raise BadCorrections(
                f"{file}, line {number}: this record is corrected further up already; keep one"
            )
        payloads[place] = payload
    if not payloads:
        raise BadCorrections(f"{file} is empty; start from what `stitchlake quarantine show --json` prints")
    return Corrections(author, payloads)


def corrections_of(snapshot: Snapshot) -> pa.Table:
    """The latest correction of every record that has one: RECORD and payload."""
    rows = snapshot.arrow(BRONZE_CORRECTIONS, [*RECORD, "payload", "batch_id"]).sort_by("batch_id")
    latest = {tuple(row[name] for name in RECORD): row for row in rows.to_pylist()}
    schema = pa.schema([BRONZE_CORRECTIONS.arrow.field(name) for name in (*RECORD, "payload")])
    return pa.Table.from_pylist(list(latest.values()), schema=schema)


def corrected(bronze: DataFrame, corrections: pa.Table) -> DataFrame:
    """Rows of bronze.events with the corrected payloads."""
    from pyspark.sql import functions as F

    if not corrections.num_rows:
        return bronze
    renamed = corrections.rename_columns([*RECORD, "corrected_payload"])
    given = F.broadcast(bronze.sparkSession.createDataFrame(renamed))
    payload = F.coalesce("corrected_payload", "payload")
    return bronze.join(given, list(RECORD), "left").withColumn("payload", payload).drop("corrected_payload")


def corrected_rows(bronze: pa.Table, corrections: pa.Table) -> pa.Table:
    """The same for rows of bronze.events in this process."""
    at, given = same_keys(bronze, corrections, RECORD)
    if not len(at):
        return bronze
    payloads = bronze["payload"].to_pylist()
    for row, payload in zip(
        at.tolist(), corrections["payload"].take(pa.array(given)).to_pylist(), strict=True
    ):
        payloads[row] = payload
    place = bronze.schema.get_field_index("payload")
    return bronze.set_column(place, bronze.schema.field(place), pa.array(payloads, pa.binary()))


def correction_rows(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows of bronze.corrections, their batch still to be filled in."""
    return pa.Table.from_pylist([{**row, "batch_id": 0} for row in rows], schema=BRONZE_CORRECTIONS.arrow)


def _place(line: Mapping[str, Any]) -> Place:
    source, origin, ordinal = (line[name] for name in RECORD)
    if not (isinstance(source, str) and isinstance(origin, str) and type(ordinal) is int):
        raise ValueError
    return source, origin, ordinal


def _payload(line: Mapping[str, Any]) -> bytes:
    payload = line.get("payload")
    if isinstance(payload, str):
        return payload.encode()
    if isinstance(payload, dict):
        return orjson.dumps(payload)
    try:
        return base64.b64decode(line["payload_base64"], validate=True)
    except binascii.Error:
        raise ValueError from None
