"""Folds the profiles of the persons that a batch touches from their sessions.

person with few sessions    all of them are read
person with many            those that the batch takes away and adds, and what was folded before; all of them where that
                            does not say enough, where she has got or lost nodes, and once after the process began
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from conf.policy import Policy
from conf.tables import PROFILES
from pipelines.state.identity_state import Members
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch import rows
from pipelines.stream.batch.activity import FOLDED, Owned
from transforms.activity.person_folds import fold_sessions, folds_after
from transforms.activity.profiles import profiles_of
from transforms.arrays.integers import is_in, places_in, union, without

KEPT_FROM = 256  # sessions of a person: her fold is kept. With fewer, reading them all is as quick.


def fold_persons(owned: Owned, state: LakeState, policy: Policy, batch_id: int) -> pa.Table:
    """Hot rows of the profiles: every changed person as she is now, and those that are no more. Changes the state."""
    members = state.identity.members_of(owned.persons)
    folds = _folds(owned, members, state)
    facts = pa.table(
        {
            "canonical_id": members.canonical,
            "tenant": state.tenants.decode(members.tenant),
            "node_id": members.id,
            "namespace": state.namespaces.decode(members.namespace),
        }
    )
    profiles = profiles_of(folds, facts, policy, batch_id)
    return rows.hot_rows(PROFILES, profiles, {"canonical_id": owned.vanished}, batch_id)


def _folds(owned: Owned, members: Members, state: LakeState) -> pa.Table:
    """PERSON_FOLDS of the changed persons that have sessions. Keeps those of persons with many."""
    kept = state.person_folds
    members = members.select(np.argsort(members.id))
    known = kept.rows("canonical_id", without(owned.persons, owned.regrouped)).sort_by("canonical_id")
    is_whole = np.ones(len(members.id), bool)
    if known.num_rows:
        is_known = is_in(members.canonical, numpy_of(known["canonical_id"]))
        changed = (_of_persons(s, members.select(is_known)) for s in (owned.taken, owned.put))
        known, is_sure = folds_after(known, *changed)
        known = known.filter(pa.array(is_sure))
        is_whole = ~is_in(members.canonical, numpy_of(known["canonical_id"]))
    read = members.select(is_whole)
    folds = fold_sessions(_of_persons(state.sessions.rows("owner_node_id", read.id, FOLDED), read))
    learnt = folds.filter(pa.array(numpy_of(folds["session_count"]) >= KEPT_FROM))
    if len(kept) or learnt.num_rows:
        outdated = kept.find("canonical_id", union(owned.persons, owned.regrouped, owned.vanished))
        kept.replace(outdated, pa.concat_tables([known, learnt]))
    return pa.concat_tables([known, folds])


def _of_persons(sessions: pa.Table, members: Members) -> pa.Table:
    """Those of `sessions` that `members` (ascending by id) own, with the person as `canonical_id`."""
    owner = numpy_of(sessions["owner_node_id"])
    is_theirs = is_in(owner, members.id)
    if not is_theirs.all():
        sessions, owner = sessions.filter(pa.array(is_theirs)), owner[is_theirs]
    person = members.canonical[places_in(members.id, owner)]
    return sessions.append_column("canonical_id", pa.array(person))
