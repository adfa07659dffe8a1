"""Manual decisions: what a person has decided about identities, and which of it is in force.

    merge a b       a and b are one person, whatever the evidence; their values of one namespace count as one
    split S | R     no person holds nodes of both; each part is held together
    keep_apart a|b  the same, before anything has joined them
    assign          one session of an anchor belongs to another owner, or to nobody
    undo d          decision d does not count from here on; undoing the undo lets it count again

A decision is in force unless a later undo of it is. Nothing else is stored: the state is a function of the records.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("merge", "split", "keep_apart", "assign", "undo")


@dataclass(frozen=True)
class Decision:
    """One decision. `sequence` is its place among all of them; instants in microseconds UTC.

    joins: pairs of nodes that are one; sides: (node, 0 or 1) that are kept apart; a session of `anchor` that starts
    between `start_at` and `end_at` belongs to `owner` (0: to nobody).
    """

    tenant: str
    decision_id: str
    kind: str
    sequence: tuple[int, int]
    decided_at: int
    joins: tuple[tuple[int, int], ...] = ()
    sides: tuple[tuple[int, int], ...] = ()
    anchor: int = 0
    start_at: int = 0
    end_at: int = 0
    owner: int = 0
    undoes: str | None = None
    author: str | None = None
    reason: str | None = None
    content_digest: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """Tenant and id, by which a decision is known."""
        return self.tenant, self.decision_id

    @property
    def nodes(self) -> frozenset[int]:
        """Every node whose person it can change."""
        owner = {self.owner} if self.owner else set()
        return frozenset({n for pair in self.joins for n in pair} | {n for n, _ in self.sides} | owner)


def in_force(decisions: dict[tuple[str, str], Decision]) -> frozenset[tuple[str, str]]:
    """The keys of the decisions that count: those that no later undo, itself in force, has taken back."""
    undoes: dict[tuple[str, str], list[Decision]] = {}
    for d in decisions.values():
        if d.kind == "undo" and d.undoes is not None:
            undoes.setdefault((d.tenant, d.undoes), []).append(d)
    found: set[tuple[str, str]] = set()
    for d in sorted(decisions.values(), key=lambda d: d.sequence, reverse=True):  # the last word first
        later = (u for u in undoes.get(d.key, ()) if u.sequence > d.sequence)
        if not any(u.key in found for u in later):
            found.add(d.key)
    return frozenset(found)
