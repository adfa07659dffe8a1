"""Parquet rows as JSON objects: instants in UTC with microseconds, binary as base64, decimals as text, no
nulls."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Iterator
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from transforms.ingest.framing.csv_frames import unique_names

_OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_NON_STR_KEYS
_ROWS = 10_000


class Damaged(Exception):
    """The rest of this file cannot be read."""


def parquet_rows(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Each row as a JSON object, by its number. Damaged from where the file cannot be read."""
    number = 0
    try:
        file = pq.ParquetFile(pa.BufferReader(body))
        for batch in file.iter_batches(batch_size=_ROWS):
            for row in _rows(batch):
                yield number, row
                number += 1
    except (
        Exception
    ) as e:  # whatever a reader of foreign bytes may raise, it costs this file and not the batch
        raise Damaged from e


def _rows(batch: pa.RecordBatch) -> Iterator[bytes]:
    columns = [_values(column) for column in batch.columns]
    names = unique_names(batch.schema.names)
    for values in zip(*columns, strict=True) if columns else ((),) * batch.num_rows:
        yield _json({n: v for n, v in zip(names, values, strict=True) if v is not None})


def _values(column: pa.Array) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":  # Python's own instants end at microseconds
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    try:
        values = column.to_pylist(maps_as_pydicts="lossy")
        return [_without_nulls(v) for v in values] if pa.types.is_nested(kind) else values
    except (
        Exception
    ):  # an instant past the year 9999, text that is not UTF-8: one value must not cost the file
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    """The scalar as Python sees it, or what comes nearest: a number for an instant, escaped bytes for
    text."""
    if not scalar.is_valid:
        return None
    if isinstance(scalar, pa.StructScalar):
        return _without_nulls({name: _value(scalar[i]) for i, name in enumerate(scalar.type.names)})
    if isinstance(scalar, pa.ListScalar | pa.LargeListScalar) and not isinstance(scalar, pa.MapScalar):
        return [_value(item) for item in scalar.values]
    try:
        return scalar.as_py()
    except Exception:
        if isinstance(scalar, pa.StringScalar | pa.LargeStringScalar):
            return scalar.as_buffer().to_pybytes().decode("utf-8", "surrogateescape")
        number = getattr(scalar, "value", None)
        return number if isinstance(number, int) else str(scalar)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value


def _json(row: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(row, default=_plain, option=_OPTIONS)
    except orjson.JSONEncodeError:
        # Escaped bytes become themselves again, so that the record is refused for what it is: not UTF-8.
        text = json.dumps(_finite(row), default=_plain, ensure_ascii=False)
        return text.encode("utf-8", "surrogateescape")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.UTC).replace(tzinfo=None)
        return value.isoformat(timespec="microseconds") + "Z"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, int):  # beyond 64 bits
        return str(value)
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
