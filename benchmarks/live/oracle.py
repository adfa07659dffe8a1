"""Is what was measured right? Every figure about a stream is worth nothing unless this holds.

conservation    in every batch received = valid + quarantined + duplicate, and all together what was sent
nothing lost    every valid event that was sent is in silver.events, once
the people      of those whose identifiers nobody else uses: the groups of a plain union-find over the events,
                and the generator's truth, are the persons of the identity map
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmarks.accuracy.pairs import Truth
from benchmarks.accuracy.simple_methods import EXACT_GROUPS
from conf.tables import BATCHES, EVENTS, IDENTITY_MAP, PROFILES
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import Snapshot, published


def require_right(lake: Path, truth: Truth, sent_count: int, valid_count: int | None = None) -> Snapshot:
    """The lake's last published state, once it is known to be right. AssertionError says what is not.

    `sent_count` is of records; `valid_count` of those that had to become events, if it is known.
    """
    snapshot = published(Lake(lake))
    assert snapshot is not None, "nothing was published"
    require_conserved(snapshot, sent_count, valid_count)
    require_people(snapshot, truth)
    return snapshot


def require_conserved(snapshot: Snapshot, sent_count: int, valid_count: int | None = None) -> None:
    counts = ("received_count", "valid_count", "quarantined_count", "duplicate_count")
    rows = snapshot.arrow(BATCHES, ["batch_id", *counts]).to_pandas()
    parts = rows["valid_count"] + rows["quarantined_count"] + rows["duplicate_count"]
    wrong = rows.loc[rows["received_count"] != parts, "batch_id"].tolist()
    assert not wrong, f"batches that do not add up: {wrong}"
    received, valid = int(rows["received_count"].sum()), int(rows["valid_count"].sum())
    assert received == sent_count, f"{sent_count:,} records were sent and {received:,} published"
    ids = snapshot.arrow(EVENTS, ["event_id"])["event_id"]
    assert pc.count_distinct(ids).as_py() == len(ids) == valid, (
        f"{len(ids):,} events where {valid:,} are valid"
    )
    if valid_count is not None:
        assert valid == valid_count, f"{valid_count:,} valid events were sent and {valid:,} found"


def require_people(snapshot: Snapshot, truth: Truth) -> None:
    """Nobody of the exact groups is parted or joined: not by the events, not by the truth."""
    known = events_of_exact(truth)
    events = snapshot.arrow(EVENTS, ["event_id", "node_ids"]).combine_chunks()
    place = pc.index_in(events["event_id"], value_set=known["event_id"])
    events, place = events.filter(pc.is_valid(place)), place.drop_null()
    row = pc.list_parent_indices(events["node_ids"]).to_numpy()
    node_ids, node = np.unique(pc.list_flatten(events["node_ids"]).to_numpy(), return_inverse=True)
    is_pair = row[:-1] == row[1:]
    label = union_find(len(node_ids), node[:-1][is_pair], node[1:][is_pair])
    person = known["person"].take(place).to_numpy()[row]
    map_rows = snapshot.arrow(IDENTITY_MAP, ["node_id", "canonical_id"]).to_pandas().set_index("node_id")
    canonical = map_rows["canonical_id"].reindex(node_ids)
    assert canonical.notna().all(), f"{int(canonical.isna().sum()):,} identifiers are nobody's"
    found = pd.DataFrame({"label": label[node], "person": person})
    found["canonical_id"] = canonical.to_numpy(np.int64)[node]
    found = found.drop_duplicates()
    for a, b in (("label", "canonical_id"), ("canonical_id", "label"), ("canonical_id", "person")):
        several = int((found[[a, b]].drop_duplicates().groupby(a).size() > 1).sum())
        assert not several, f"{several:,} of {found[a].nunique():,} have more than one {b} to one {a}"
    profiles = pc.unique(snapshot.arrow(PROFILES, ["canonical_id"])["canonical_id"])
    missing = int((~pd.Series(found["canonical_id"].unique()).isin(profiles.to_numpy())).sum())
    assert not missing, f"{missing:,} persons have no profile"


def events_of_exact(truth: Truth) -> pa.Table:
    """The truth's events of the people whose identifiers nobody else uses."""
    exact = truth.persons.filter(truth.is_in(EXACT_GROUPS))["person"]
    return truth.events.filter(pc.is_in(truth.events["person"], value_set=exact))


def exact_events(snapshot: Snapshot, truth: Truth, from_batch: int) -> set[str]:
    """Ids of the published events of these people, from a batch on."""
    is_later = pc.field("batch_id") >= from_batch
    ids = snapshot.dataset(EVENTS).to_table(columns=["event_id"], filter=is_later)["event_id"]
    return set(ids.filter(pc.is_in(ids, value_set=events_of_exact(truth)["event_id"])).to_pylist())


def union_find(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The label of each of `count` nodes: the same for two if, and only if, edges connect them."""
    ones = np.ones(len(left), np.int8)
    return connected_components(coo_matrix((ones, (left, right)), (count, count)), directed=False)[1]


def stored_bytes(lake: Path) -> int:
    """What the lake takes on disk, logs and checkpoints included."""
    return sum(path.stat().st_size for path in lake.rglob("*") if path.is_file())
