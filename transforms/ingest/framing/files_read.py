"""The identity of a file: its name, its size and the digest of its content.

A name that comes again with the same content is the same file, and is not read again. With other content it is read,
and those of its records are left out whose bytes have been read under that name before, each as often as it was: so
whatever was appended, changed or put in between is new, and nothing that stayed is counted twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b, sha256
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

READ, CHANGED, KNOWN = "read", "changed", "known"
MOVING = (
    "moving"  # it changed between two looks at it: nothing is taken, and it is read once it has come to rest
)
PART = "part"  # some of its records, in order: a portion of a batch ended within it, and the next one goes on
_FACTS = b"files"
_BLOCK = 2**20


class Reading(NamedTuple):
    """What is to be done with a file of whose name something has been read. Both hold for the content with `digest`.

    `first`: the number of its first record, beyond those of the records before. `seen`: digests of the records that
    are left out, and how many of each; None: the file is known, and nothing of it is taken.
    """

    digest: str
    first: int
    seen: Counter[bytes] | None


class FileRead(NamedTuple):
    """One file that a batch has met. `first`, `last`: numbers of its records, None where it has none.
    `known_count`: records that were left out because they have been read under this name before."""

    source: str
    path: str
    origin: str
    outcome: str
    size: int | None  # None, as the digest: of a part, or of a batch that an older program published
    digest: str | None
    first: int | None
    last: int | None
    record_count: int
    known_count: int


Readings = dict[tuple[str, str], Reading]  # by source and path


def content_digest(content: bytes) -> str:
    """SHA-256, as `sha256sum` has it, and twice as quick here as BLAKE2b: it runs over every byte."""
    return sha256(content).hexdigest()


def digest_of_file(file: BinaryIO) -> str:
    """The content's digest, without the whole of it in memory."""
    digest = sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def record_digest(payload_format: str, payload: bytes) -> bytes:
    """What a record is known by inside its file."""
    return blake2b(b"%b\n%b" % (payload_format.encode(), payload), digest_size=16).digest()


def origin_key(source: str, origin: str) -> int:
    """64 bits that say that something of this origin may have been read; the rows in ops.files say whether."""
    text = f"{source}\0{origin}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


def with_facts(rows: pa.RecordBatch, facts: Sequence[FileRead]) -> pa.RecordBatch:
    """The rows of a portion, and the files that ended in it."""
    return rows.replace_schema_metadata({_FACTS: json.dumps(facts)}) if facts else rows


def facts_of(rows: pa.Table | pa.RecordBatch) -> list[FileRead]:
    """The files that the rows were read from."""
    facts = (rows.schema.metadata or {}).get(_FACTS)
    return [FileRead(*fact) for fact in json.loads(facts)] if facts else []


def joined(parts: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """Portions (tables or batches) as one table that tells the files of all of them."""
    tables = [pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part for part in parts]
    facts = [fact for table in tables for fact in facts_of(table)]
    table = (
        pa.concat_tables(t.replace_schema_metadata(None) for t in tables) if tables else schema.empty_table()
    )
    return table.replace_schema_metadata({_FACTS: json.dumps(facts)}) if facts else table
