"""The content by which events of one id are compared: one text, and its digest.

[type,name,microseconds,platform,[node ids],[weak node ids],[ids of the actor's nodes]]
the free properties
the context
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from transforms.arrays.integers import Longs
from transforms.ingest.values.hashing import digest, digests


def content_digest(head: list[Any], free: bytes, context: bytes) -> int:
    """The digest of one event's content. `head`: its first line as a list; `free`, `context`: JSON, empty for none."""
    return digest(b"%b\n%b\n%b" % (orjson.dumps(head), free, context))


def content_digests(head: Sequence[Any], free: list[bytes | None], context: list[bytes | None]) -> Longs:
    """The `content_digest` of many events, put together column by column.

    `head`: type, name and platform as JSON, microseconds, and lists of node ids, without those of an actor.
    """
    event_type, name, at, platform, nodes, weak = head
    comma, text = pa.scalar(b","), pa.binary()
    columns = [
        *(pa.array(event_type, text), comma, pa.array(name, text), comma, _as_text(pa.array(at)), comma),
        *(pa.array(platform, text), pa.scalar(b",["), _joined(nodes), pa.scalar(b"],["), _joined(weak)),
        *(pa.scalar(b"],[]]\n"), pa.array([part or b"" for part in free], text), pa.scalar(b"\n")),
        pa.array([part or b"" for part in context], text),
    ]
    contents = pc.binary_join_element_wise(pa.scalar(b"["), *columns, pa.scalar(b""))
    return digests(contents.to_pylist())


def _as_text(numbers: pa.Array) -> pa.Array:
    return numbers.cast(pa.string()).cast(pa.binary())


def _joined(lists: pa.ListArray) -> pa.Array:
    """The numbers of each list with commas between."""
    texts = pa.ListArray.from_arrays(lists.offsets, _as_text(lists.values))
    return pc.binary_join(texts, b",")
