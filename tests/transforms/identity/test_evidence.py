"""Evidence is the same however many pairs are folded at a time, and costs memory for the pairs that differ alone."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import examples
from transforms.identity import evidence
from transforms.identity.evidence import different_pairs, gather_evidence, pairs_of

records = st.lists(
    st.tuples(
        st.lists(st.integers(1, 8), max_size=6, unique=True),
        st.integers(0, 1),
        st.integers(0, 1),
        st.integers(0, 9),
    ),
    max_size=30,
)


def evidence_of(found: list[tuple]) -> list[tuple]:
    lists = pa.array([r[0] for r in found], pa.list_(pa.int64()))
    source, kind, at = (
        np.array([r[i] for r in found], t) for i, t in ((1, np.int16), (2, np.int16), (3, np.int64))
    )
    e = gather_evidence(lists, source, kind, at)
    return list(zip(*(getattr(e, f).tolist() for f in e.__dataclass_fields__), strict=True))


@settings(max_examples=examples(300))
@given(records, st.integers(1, 20))
def test_pairs_folded_in_portions_are_the_evidence_of_all_of_them(found, at_once):
    """Seen to fail where the rows of a portion were not those of the batch."""
    whole = evidence_of(found)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(evidence, "PAIRS_AT_ONCE", at_once)
        assert evidence_of(found) == whole
        lists = pa.array([r[0] for r in found], pa.list_(pa.int64()))
        left, right = different_pairs(lists)
    _, lefts, rights = pairs_of(lists)
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == sorted(
        set(zip(lefts.tolist(), rights.tolist(), strict=True))
    )


def test_a_batch_of_records_full_of_identifiers_takes_the_memory_of_the_pairs_that_differ(monkeypatch):
    """2,000 records of 50 identifiers: 2.45 million pairs, 1,225 different ones. Seen to fail where all were held at
    once: 236 MiB."""
    count = 2_000
    lists = pa.array([list(range(1, 51))] * count, pa.list_(pa.int64()))
    codes, at = np.zeros(count, np.int16), np.arange(count)
    monkeypatch.setattr(evidence, "PAIRS_AT_ONCE", 1 << 14)
    tracemalloc.start()
    try:
        found = gather_evidence(lists, codes, codes, at)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == 1225
    assert set(found.count.tolist()) == {count}
    assert peak < 16 * 2**20
