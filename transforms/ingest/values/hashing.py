"""Numbers that stand for values: keyed where the value is somebody's, unkeyed where only equality or order
matters.

Every hash is over parts with their lengths in front, so that ("ab", "c") and ("a", "bc") are two different
things.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b, sha256

import numpy as np

from transforms.arrays.integers import Longs

_CACHE_SIZE = 200_000
_MASK = (1 << 63) - 1
_EMPTY, _READ = blake2b(digest_size=8), struct.Struct(">q").unpack
_READ_PAIR = struct.Struct(">qq").unpack
_LOWER = b"+"  # behind a content whose parts have their lengths in front, so that no other content is both
_BLOCK = 64  # bytes that SHA-256 takes at a time


def encode(*parts: str) -> bytes:
    """The parts as bytes that no other parts have."""
    return "".join([f"{len(part)}:{part}" for part in parts]).encode("utf-8", "surrogatepass")


def keyed_node_id(key: bytes, identifier: bytes) -> int:
    """The node of an encoded (tenant, namespace, normalised value): 63 bits, never 0."""
    return node_ids(key)(identifier)


@lru_cache(maxsize=4)
def node_ids(key: bytes) -> Callable[[bytes], int]:
    """`keyed_node_id` under one key, for many identifiers: HMAC-SHA-256 (RFC 2104) whose two hashes of the padded key
    are made once, in half the time of `hmac.digest`."""
    block = (sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    inner_start, outer_start = (sha256(bytes(b ^ pad for b in block)) for pad in (0x36, 0x5C))
    read = int.from_bytes

    def node_id_of(identifier: bytes) -> int:
        inner, outer = inner_start.copy(), outer_start.copy()
        inner.update(identifier)
        outer.update(inner.digest())
        return read(outer.digest()[:8], "big") & _MASK or 1

    return node_id_of


def digest(content: bytes) -> int:
    """A 64-bit hash of `content`, signed as Spark's and Arrow's longs are."""
    started = _EMPTY.copy()  # half the time of starting one: this runs several times an event
    started.update(content)
    number: int = _READ(started.digest())[0]
    return number


def digests(contents: Iterable[bytes]) -> Longs:
    """The `digest` of each."""
    found = []
    for content in contents:
        started = _EMPTY.copy()
        started.update(content)
        found.append(started.digest())
    return np.frombuffer(b"".join(found), ">i8").astype(np.int64)


def tie_hash(tenant: str, namespace: str, value: str) -> int:
    """Decides between identifiers of equal rank: unkeyed, so that every lake ends it in the
    same way."""
    return digest(encode(tenant, namespace, value))


def event_key(tenant: str, event_id: str) -> tuple[int, int]:
    """(tenant, event_id) as 128 bits, for look-ups: the upper and the lower half. The lower one is never 0."""
    upper, lower = _READ_PAIR(_halves(_event(tenant, event_id)))
    return upper, lower or 1


def event_keys(tenants: Iterable[str], event_ids: Iterable[str]) -> tuple[Longs, Longs]:
    """The `event_key` of each: the upper halves, and the lower ones."""
    found = []
    for tenant, event_id in zip(tenants, event_ids, strict=True):  # `_halves`, spelled out
        started = _EMPTY.copy()
        started.update(f"{len(tenant)}:{tenant}{len(event_id)}:{event_id}".encode("utf-8", "surrogatepass"))
        found.append(started.digest())
        started.update(_LOWER)
        found.append(started.digest())
    upper, lower = np.frombuffer(b"".join(found), ">i8").reshape(-1, 2).T.astype(np.int64)
    lower[lower == 0] = 1
    return upper, lower


def decision_key(tenant: str, decision_id: str) -> tuple[int, int]:
    """As `event_key`, of a manual decision: no event has the same one, whatever its id."""
    upper, lower = _READ_PAIR(_halves(encode("decision", tenant, decision_id)))
    return upper, lower or 1


def _halves(content: bytes) -> bytes:
    """Two digests of eight bytes. The first one is `digest`, which is the whole key in older rows."""
    started = _EMPTY.copy()
    started.update(content)
    upper = started.digest()
    started.update(_LOWER)
    return upper + started.digest()


def _event(tenant: str, event_id: str) -> bytes:
    # encode(), spelled out, for it runs once an event.
    return f"{len(tenant)}:{tenant}{len(event_id)}:{event_id}".encode("utf-8", "surrogatepass")


_nodes: dict[tuple[bytes, str, str, str], int] = {}


def node_id(key: bytes, tenant: str, namespace: str, value: str) -> int:
    """The node of one identifier; `value` is normalised. The last few are remembered."""
    wanted = (key, tenant, namespace, value)
    found = _nodes.get(wanted)
    if found is None:
        if len(_nodes) >= _CACHE_SIZE:
            _nodes.clear()
        found = _nodes[wanted] = keyed_node_id(key, encode(tenant, namespace, value))
    return found
