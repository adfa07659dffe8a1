"""Compares the rules that made a lake with those of this program: the policy, and what decides node ids."""

from __future__ import annotations

from collections import Counter

from conf.identifier_rules import UNICODE, identifier_rules
from conf.policy import Policy
from conf.tables import IDENTIFIERS
from pipelines.lake.snapshot import ROWS_PER_READ, Snapshot
from transforms.ingest.values.normalize import Normalizer
from transforms.ingest.values.visible_text import visible


def recorded_rules(snapshot: Snapshot) -> dict[str, str]:
    """The facts that the last published batch names; none where a program wrote it that did not know of them."""
    return dict(snapshot.row.get("identifier_rules") or ())


def same_policy(snapshot: Snapshot, policy: Policy) -> bool:
    """Whether the snapshot was published under this policy."""
    return bool(snapshot.row["policy_fingerprint"] == policy.fingerprint)


def other_identifier_rules(snapshot: Snapshot, policy: Policy) -> str | None:
    """What is another now in the rules that make nodes of identifiers, in words and with the way out; None where
    nothing is.

    Where nobody has recorded them, or only Unicode's version differs, the lake's own identifiers tell: each has to be
    what it is under the rules of now.
    """
    before, now = recorded_rules(snapshot), identifier_rules(policy)
    different = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if not different:
        return None
    if before and different != [UNICODE]:
        facts = ", ".join(
            f"{name} {before.get(name, 'none')}, now {now.get(name, 'none')}" for name in different
        )
        return _asked(f"were made by other rules ({facts})")
    changed = changed_identifiers(snapshot, policy)
    if not changed:
        return None
    counts = ", ".join(f"{name} {count:,}" for name, count in sorted(changed.items()))
    return _asked(f"have another spelling under this version's rules ({counts})")


def _asked(what: str) -> str:
    return (
        f"identifiers of this lake {what}, so that the same value would become another node; apply the rules with "
        "`stitchlake rebuild` (its --dry-run says what changes), or go on with the version that made the lake"
    )


def changed_identifiers(snapshot: Snapshot, policy: Policy) -> Counter[str]:
    """How many of the lake's identifiers are not what the rules of now would make of them, by namespace."""
    usable, known = Normalizer(policy).usable, policy.by_name
    changed: Counter[str] = Counter()
    rows = snapshot.dataset(IDENTIFIERS).to_batches(columns=["namespace", "value"], batch_size=ROWS_PER_READ)
    for batch in rows:
        for namespace, value in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            now = usable(value, namespace)[0] if namespace in known else visible(value)
            if now != value:
                changed[namespace] += 1
    return changed
