"""What a test lake shows: rows of its last published state, who is one person, and contents that compare."""

from __future__ import annotations

from collections import defaultdict

from conf.table_spec import TableSpec
from conf.tables import (
    EVENTS,
    IDENTIFIERS,
    IDENTITY_EDGES,
    IDENTITY_MAP,
    PROFILES,
    QUARANTINE,
    REJECTED_EDGES,
    SESSIONS,
)
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published

COMPARED = (QUARANTINE, EVENTS, IDENTIFIERS, IDENTITY_EDGES, IDENTITY_MAP, REJECTED_EDGES, SESSIONS, PROFILES)


class PublishedRows:
    """For classes that have a `lake`."""

    lake: Lake

    def rows(self, spec: TableSpec, columns: list[str] | None = None) -> list[dict]:
        snapshot = published(self.lake)
        assert snapshot is not None
        return snapshot.arrow(spec, columns).to_pylist()

    def people(self) -> set[frozenset[str]]:
        """Who is one, as `namespace:value` sets."""
        return set(self._members().values())

    def _members(self) -> dict[int, frozenset[str]]:
        names = {r["node_id"]: f"{r['namespace']}:{r['value']}" for r in self.rows(IDENTIFIERS)}
        groups: dict[int, set[str]] = defaultdict(set)
        for r in self.rows(IDENTITY_MAP, ["node_id", "canonical_id"]):
            groups[r["canonical_id"]].add(names.get(r["node_id"], f"unclaimed:{names.get(-r['node_id'])}"))
        return {c: frozenset(g) for c, g in groups.items()}

    def contents(self) -> dict[str, list[str]]:
        """The content of every table, with persons named after their members instead of by minted ids."""
        members = {c: min(g) for c, g in self._members().items()}
        result = {}
        for spec in COMPARED:
            columns = [*spec.with_role("content")]
            has_person = "canonical_id" in spec.names
            lines = []
            for row in self.rows(spec, [*columns, "canonical_id"] if has_person else columns):
                if has_person:
                    row["canonical_id"] = members[row["canonical_id"]]
                lines.append(repr(sorted(row.items(), key=lambda item: item[0])))
            result[spec.full_name] = sorted(lines)
        return result
