"""Reads the published sessions whose owners a batch may change: few, however many their anchors have.

anchor with few sessions    all of them
anchor with many            those near the batch's events; and where the facts that decide about the anchor are
                            others than before, those that start where it matters
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from conf.policy import Policy
from conf.tables import SESSIONS
from pipelines.state.keyed_rows import numpy_of
from pipelines.state.lake_state import LakeState
from transforms.activity.anchor_facts import facts_after, judged_otherwise
from transforms.activity.ownership import (
    OWNER_COLUMNS,
    Persons,
    anchor_facts,
    claimants,
    named_nodes,
    needs_all_sessions,
    persons_of,
)
from transforms.activity.session_reach import REACH_COLUMNS
from transforms.activity.sessions import CutResult, after_cut
from transforms.activity.windows import reached, windows_around
from transforms.arrays.integers import distinct, is_in, union, without
from transforms.identity.evidence import NO_EVIDENCE
from transforms.identity.joined import joined_values

SESSION_KEYS = [n for n in SESSIONS.names if n in {*REACH_COLUMNS, *OWNER_COLUMNS}]
_ANCHOR = "anchor_node_id"


@dataclass(frozen=True)
class Read:
    """Published sessions of some anchors: positions (ascending) and session keys. All of them, but of the anchors
    `in_part` only those near the events that they were read for."""

    positions: np.ndarray
    session_keys: pa.Table
    in_part: np.ndarray


@dataclass(frozen=True)
class ToJudge:
    """Published sessions whose owners may be others now. `facts`: those of the anchors of which not all sessions are
    there, as they are after the cut; `persons`: of the nodes that the sessions name."""

    positions: np.ndarray
    session_keys: pa.Table
    facts: pa.Table
    persons: Persons


def sessions_near(events: pa.Table, state: LakeState, policy: Policy, gap_us: int) -> Read:
    """Read the sessions that the events may change, and those next to them. `gap_us`: in microseconds."""
    if needs_all_sessions(policy):
        anchors = distinct(numpy_of(events[_ANCHOR]))
        positions = np.sort(state.sessions.find(_ANCHOR, anchors))
        return Read(positions, state.sessions.take(positions, SESSION_KEYS), anchors[:0])
    windows = windows_around(events, gap_us)
    while True:
        positions, in_part = state.sessions.near(windows)
        positions.sort()
        session_keys = state.sessions.take(positions, SESSION_KEYS)
        if not len(in_part):
            return Read(positions, session_keys, in_part)
        is_reached, wider = reached(session_keys, in_part, windows, gap_us)
        if wider is None:
            return Read(positions[is_reached], session_keys.filter(pa.array(is_reached)), in_part)
        windows = wider


def sessions_to_judge(
    near: Read, cut: CutResult, judged_anew: np.ndarray, state: LakeState, policy: Policy
) -> ToJudge:
    """Read `near`, all sessions of the anchors `judged_anew`, and any other session that the cut gives another owner.

    Keeps the facts of anchors that were read in part: of those that it does not know yet all sessions are read, once.
    """
    known = state.anchor_facts.rows(_ANCHOR, without(near.in_part, judged_anew)).sort_by(_ANCHOR)
    while True:
        anchors = numpy_of(known[_ANCHOR])
        whole = union(judged_anew, without(near.in_part, anchors))
        positions, session_keys = near.positions, near.session_keys
        if len(whole):
            positions = union(positions, state.sessions.find(_ANCHOR, whole))
            session_keys = state.sessions.take(positions, SESSION_KEYS)
        persons = _named_persons(session_keys, cut, known, state, policy)
        if not len(near.in_part) and not len(judged_anew):
            return ToJudge(positions, session_keys, known, persons)
        after = after_cut(session_keys, cut)
        was, new = (_facts_at(anchors, sessions, policy, persons) for sessions in (session_keys, after))
        facts, is_sure = facts_after(known, was, new, persons)
        if is_sure.all():
            break
        known = known.filter(pa.array(is_sure))
    elsewhere = judged_otherwise(known, facts, policy)
    if len(elsewhere):
        positions = union(positions, state.sessions.near(elsewhere)[0])
        session_keys = state.sessions.take(positions, SESSION_KEYS)
        persons = _named_persons(session_keys, cut, known, state, policy)  # of those sessions too
    learnt = _facts_at(np.intersect1d(whole, near.in_part), after, policy, persons)
    state.anchor_facts.replace(
        state.anchor_facts.find(_ANCHOR, union(judged_anew, near.in_part)), pa.concat_tables([facts, learnt])
    )
    return ToJudge(positions, session_keys, facts, persons)


def _named_persons(
    session_keys: pa.Table, cut: CutResult, known: pa.Table, state: LakeState, policy: Policy
) -> Persons:
    first = numpy_of(known["first_claimant_node_id"])
    named = state.identity.nodes(union(named_nodes(session_keys), named_nodes(cut.upserts), first))
    joined = joined_values(named, named, NO_EVIDENCE, state.identity, policy)
    if len(joined.member):
        named = state.identity.nodes(union(named.id, joined.label))
    return persons_of(named, joined)


def _facts_at(anchors: np.ndarray, sessions: pa.Table, policy: Policy, persons: Persons) -> pa.Table:
    """The facts of these anchors, as far as `sessions` say."""
    there = sessions.filter(pa.array(is_in(numpy_of(sessions[_ANCHOR]), anchors)))
    return anchor_facts(there, claimants(there, policy, persons), persons)
