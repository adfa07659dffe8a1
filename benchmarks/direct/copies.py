"""A lake of any size in seconds: what the product makes of one person's events, copied with every id renamed.

    records of one person ──▶ the product's own batch ──▶ rows of every table
                                                            │  node ids, ties, event keys, session ids as the product
                                                            ▼  hashes them for the copy's own values
    rows of copy 0, 1, 2 … ──▶ the product's own writer ──▶ a lake that a stream goes on with

Every copy's values are the first one's with another number in them, so whose an identifier is can be read off it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, EVENTS, IDENTIFIERS, IDENTITY_EDGES, IDENTITY_MAP, SESSIONS
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations.upgrade import ready_to_write
from pipelines.state.keyed_rows import numpy_of
from tests.direct_lake import KEY, DirectLake
from transforms.activity.sessions import session_ids
from transforms.identity.canonical import ORDINAL_BITS
from transforms.ingest.values.hashing import digest, encode, event_keys, node_ids, tie_hash

DIGITS = 9
NUMBER = "0" * DIGITS  # what stands for a copy's number in the values of the original
NUMBER_AT = 1  # … after a letter that tells the namespace
AT = 1_772_000_000  # when all of it happened, seconds
COPIES_AT_ONCE = 50_000
BATCH = 1
Record = dict[str, Any]


def number(copy: int) -> str:
    return f"{copy:0{DIGITS}d}"


def customer(copy: int) -> list[Record]:
    """A person who browses and logs in: 4 identifiers, 4 pairs of them, 2 events in 1 session."""
    n = number(copy)
    browses = {"device_id": f"d{n}", "cookie_id": f"c{n}"}
    logs_in = {"device_id": f"d{n}", "user_id": f"u{n}", "email": f"m{n}@example.com"}
    return [event(f"a{n}", AT, "page_view", browses), event(f"b{n}", AT + 60, "login", logs_in)]


def visitor(copy: int) -> list[Record]:
    """Somebody who never logs in: 4 identifiers, 4 pairs of them, 2 events in 1 session. Joining two of them breaks
    no limit, so their persons are plain connected components."""
    n = number(copy)
    first = {"device_id": f"d{n}", "cookie_id": f"c{n}", "visitor_id": f"v{n}"}
    later = {"device_id": f"d{n}", "cookie_id": f"e{n}"}
    return [event(f"a{n}", AT, "page_view", first), event(f"b{n}", AT + 60, "page_view", later)]


NODES_EACH = EDGES_EACH = 4  # of a customer, and of a visitor
LATER_EVENTS, LATER_SESSIONS = 12, 3  # of a regular


def regular(copy: int) -> list[Record]:
    """A customer who comes back: as many identifiers and pairs, and more history."""
    n = number(copy)
    here = {"device_id": f"d{n}", "cookie_id": f"c{n}"}
    each = LATER_EVENTS // LATER_SESSIONS
    places = [(s, k) for s in range(1, LATER_SESSIONS + 1) for k in range(each)]
    later = [event(f"r{n}-{s}-{k}", AT + s * 7_200 + k * 60, "page_view", here) for s, k in places]
    return customer(copy) + later


def event(event_id: str, at: int, event_type: str, identifiers: Mapping[str, str]) -> Record:
    return {
        "event_id": event_id,
        "timestamp": at,
        "event_type": event_type,
        "platform": "web",
        "identifiers": dict(identifiers),
    }


def copies_of_values(values: pa.ChunkedArray) -> np.ndarray:
    """The number of the copy that each identifier belongs to."""
    digits = pc.utf8_slice_codeunits(values, NUMBER_AT, NUMBER_AT + DIGITS)
    return pc.cast(digits, pa.int64()).to_numpy()


def fill(path: Path, original: Sequence[Record], count: int, scratch: Path) -> Lake:
    """A new lake of `count` copies of what the product makes of the records `original`, published as one batch."""
    lake = Lake(path)
    path.mkdir(parents=True, exist_ok=True)
    key_path(path).write_bytes(KEY)
    ready_to_write(lake)
    rows, batch = _rows_of(original, scratch / f"{path.name}-original")
    writer = DeltaRsWriter(lake)
    writes: list[Future[int]] = []
    with ThreadPoolExecutor(4, thread_name_prefix="copies") as pool:
        for chunk, first in enumerate(range(0, count, COPIES_AT_ONCE)):
            numbers = np.arange(first, min(count, first + COPIES_AT_ONCE))
            names = _names_of(rows, numbers)  # hashes, in Python, while the chunk before is written
            for write in writes:
                write.result()
            writes = [
                pool.submit(writer.append, spec, _copied_rows(spec, table, names), Txn("copies", chunk))
                for spec, table in rows.items()
            ]
        for write in writes:
            write.result()
    versions = {s.full_name: lake.version(s) for s in with_hot_parts(ALL) if s is not BATCHES}
    counted = {name: batch[name] * count for name in batch if name.endswith("_count")}
    row = pa.Table.from_pylist([batch | counted | {"table_versions": versions}], schema=BATCHES.arrow)
    writer.append(BATCHES, row, Txn("copies", 0))
    return lake


def _rows_of(records: Sequence[Record], folder: Path) -> tuple[dict[TableSpec, pa.Table], dict[str, Any]]:
    """(rows by table, the row of ops.batches) after one batch of `records` into an empty lake."""
    lake = DirectLake(folder / "lake", stream="history", mappings=("native",))
    lake.feed(records, name="history.jsonl")
    snapshot = published(lake.lake)
    assert snapshot is not None
    assert snapshot.batch_id == BATCH
    rows = {spec: snapshot.arrow(spec) for spec in ALL if spec is not BATCHES}
    return {spec: table for spec, table in rows.items() if table.num_rows}, snapshot.row


@dataclass(frozen=True)
class _Names:
    """What the copies `numbers` have in place of the original's: their numbers as text, and for each of its ids (a
    number that stands for nothing else) theirs. `event_count`: events of each."""

    numbers: np.ndarray
    text: pa.Array
    longs: Mapping[int, np.ndarray]
    event_count: int


def _names_of(rows: Mapping[TableSpec, pa.Table], numbers: np.ndarray) -> _Names:
    """Every id hashed by the product's own functions from the copy's own values."""
    digits = [number(n) for n in numbers.tolist()]

    def named(value: str) -> list[str]:
        before, after = value.split(NUMBER)
        return [f"{before}{n}{after}" for n in digits]

    longs: dict[int, np.ndarray] = {}
    node_of = node_ids(KEY)
    for r in rows[IDENTIFIERS].to_pylist():
        tenant, space, values = r["tenant"], r["namespace"], named(r["value"])
        longs[r["node_id"]] = _longs(node_of(encode(tenant, space, v)) for v in values)
        longs[r["tie_hash"]] = _longs(tie_hash(tenant, space, v) for v in values)
    for r in rows[EVENTS].to_pylist():
        ids = named(r["event_id"])
        longs[r["event_key"]], longs[r["event_key_low"]] = event_keys([r["tenant"]] * len(ids), ids)
        # Not the digest of its content: nobody delivers a copy's events again.
        longs[r["content_digest"]] = _longs(digest(i.encode()) for i in ids)
    sessions = rows[SESSIONS]
    starts = numpy_of(sessions["start_at"])
    for at, r in enumerate(sessions.select(["session_id", "anchor_node_id", "start_event_id"]).to_pylist()):
        anchors, start = longs[r["anchor_node_id"]], np.repeat(starts[at], len(numbers))
        longs[r["session_id"]] = session_ids(anchors, start, pa.array(named(r["start_event_id"])))
    (person,) = rows[IDENTITY_MAP]["canonical_id"].unique().to_pylist()
    longs[person] = (np.int64(BATCH) << ORDINAL_BITS) + numbers
    return _Names(numbers, pa.array(digits), longs, rows[EVENTS].num_rows)


def _longs(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, np.int64)


def _copied_rows(spec: TableSpec, rows: pa.Table, names: _Names) -> pa.Table:
    """The rows of every copy, one copy after the other."""
    columns = {}
    for field in spec.arrow:
        column = rows[field.name].combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        if field.name == "origin_ordinal":  # its place in the one file that all of it came in
            places = numpy_of(column) + names.numbers[:, None] * names.event_count
            columns[field.name] = pa.array(places.ravel())
        else:
            columns[field.name] = _copied(column, names)
    if spec is IDENTITY_EDGES:  # smaller node first
        ends = [columns[c].to_numpy() for c in ("left_node_id", "right_node_id")]
        columns["left_node_id"], columns["right_node_id"] = map(
            pa.array, (np.minimum(*ends), np.maximum(*ends))
        )
    return pa.table([columns[n] for n in spec.names], schema=spec.arrow)


def _copied(values: pa.Array, names: _Names) -> pa.Array:
    """`values` once for every copy, with the copy's ids in place of the original's."""
    kind, count = values.type, len(names.numbers)
    every = np.tile(np.arange(len(values)), count)
    if not len(values) or values.null_count == len(values):
        return pa.nulls(len(every), kind)
    is_null = np.tile(values.is_null().to_numpy(zero_copy_only=False), count)
    mask = pa.array(is_null) if values.null_count else None
    if pa.types.is_map(kind) or pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(values.cast(_as_list(kind))), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(np.tile(lengths, count))]), pa.int32())
        if pa.types.is_map(kind):
            keys, items = _copied(values.keys, names), _copied(values.items, names)
            return pa.MapArray.from_arrays(offsets, keys, items, type=kind, mask=mask)
        return pa.ListArray.from_arrays(offsets, _copied(values.flatten(), names), type=kind, mask=mask)
    if pa.types.is_struct(kind):
        children = [_copied(values.field(n), names) for n in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)
    if pa.types.is_int64(kind):
        out = np.tile(numpy_of(values), (count, 1))
        for at, value in enumerate(values.to_pylist()):
            if value in names.longs:
                out[:, at] = names.longs[value]
        return pa.array(out.ravel(), mask=is_null)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        by_value = every * count + np.repeat(np.arange(count), len(values))
        return _copied_texts(values, names).take(pa.array(by_value))
    return values.take(pa.array(every))


def _copied_texts(values: pa.Array, names: _Names) -> pa.Array:
    """Every copy's first value, then every copy's second one, …"""
    number_of = names.text.cast(values.type)
    parts = []
    for value in values.to_pylist():
        token: Any = NUMBER.encode() if isinstance(value, bytes) else NUMBER
        if value is None or token not in value:
            parts.append(pa.repeat(pa.scalar(value, values.type), len(number_of)))
            continue
        first, *others = value.split(token)
        joined: list[Any] = [pa.scalar(first, values.type)]
        for other in others:
            joined += [number_of, pa.scalar(other, values.type)]
        parts.append(pc.binary_join_element_wise(*joined, pa.scalar(token[:0], values.type)))
    return pa.concat_arrays(parts)


def _as_list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.struct([kind.key_field, kind.item_field])) if pa.types.is_map(kind) else kind
