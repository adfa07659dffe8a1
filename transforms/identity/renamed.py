"""Gives persons that were resolved anew their published canonical ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from conf.tables.identity import IDENTITY_MAP
from transforms.arrays.grouped import Longs, filled, longs, nullable
from transforms.identity.kept_ids import KeptIds, keep_ids


@dataclass(frozen=True)
class Renamed:
    """`owners` are rows of identity_map under the ids to keep. `fresh` (ascending) → `canonical`: every id that was
    made anew, and the one that takes its place. `was`: the id that each row's node had, 0 for none."""

    owners: pa.Table
    fresh: Longs
    canonical: Longs
    was: Longs
    ids: KeptIds

    def of(self, fresh_ids: Longs) -> Longs:
        """The ids that stand for ids made anew."""
        return self.canonical[np.searchsorted(self.fresh, fresh_ids)]


def rename_persons(
    rebuilt: pa.Table,
    ties: tuple[Longs, Longs],
    present: pa.Table,
    redirects: tuple[Longs, Longs],
    left_with: tuple[Longs, Longs],
    batch_id: int,
    batch_at: int,
) -> Renamed:
    """`rebuilt` and `present` are whole identity maps. ties: (node, unkeyed hash) of every identifier of `rebuilt`.

    left_with: (node, id) of nodes that are in no map now, and whose they were last. batch_at in microseconds.
    """
    node = longs(rebuilt["node_id"])
    fresh, of_fresh = np.unique(longs(rebuilt["canonical_id"]), return_inverse=True)
    rank = _in_order_of_ties(node, of_fresh, len(fresh), ties)
    person = rank[of_fresh]
    was = _looked_up(node, longs(present["node_id"]), longs(present["canonical_id"]))
    first = _looked_up(node, longs(present["node_id"]), longs(present["first_canonical_id"]))
    since = _looked_up(node, longs(present["node_id"]), longs(present["since_at"]))
    earlier = np.where(was > 0, first, _looked_up(node, *left_with))
    ids = keep_ids(person, was, earlier, np.unique(longs(present["canonical_id"])), redirects, batch_id)
    canonical = ids.canonical[person]

    # As ever, a component is labelled by the oldest person in it.
    component = longs(rebuilt["component_id"])
    labels, of_label = np.unique(component, return_inverse=True)
    oldest = np.full(len(labels), np.iinfo(np.int64).max)
    np.minimum.at(oldest, of_label, canonical)
    columns = dict(zip(rebuilt.column_names, rebuilt.columns, strict=True)) | {
        "canonical_id": pa.array(canonical),
        "component_id": nullable(np.where(component > 0, oldest[of_label], 0), pa.int64(), 0),
        "first_canonical_id": pa.array(np.where(was > 0, first, canonical)),
        "since_at": pa.array(np.where(canonical == was, since, batch_at)).cast(
            IDENTITY_MAP.arrow.field("since_at").type
        ),
    }
    owners = pa.table(filled(columns, IDENTITY_MAP.arrow, len(node)), schema=IDENTITY_MAP.arrow)
    return Renamed(owners, fresh, ids.canonical[rank], was, ids)


def _in_order_of_ties(node: Longs, person: Longs, count: int, ties: tuple[Longs, Longs]) -> Longs:
    """The place of persons 0 … count-1 in the order in which ties end: by their smallest unkeyed hash, whoever has
    only what an anchor left unclaimed after all others."""
    hashes = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(hashes, person, _looked_up(np.abs(node), *ties))
    is_unclaimed = np.ones(count, np.bool_)
    is_unclaimed[person[node > 0]] = False
    rank = np.empty(count, np.int64)
    rank[np.lexsort((hashes, is_unclaimed))] = np.arange(count)
    return rank


def _looked_up(wanted: Longs, keys: Longs, values: Longs) -> Longs:
    """The value of each wanted key, 0 where there is none."""
    if not len(keys):
        return np.zeros(len(wanted), np.int64)
    by = np.argsort(keys)
    keys, values = keys[by], values[by]
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
