"""A whole lake without a JVM: files as a stream would hand them over, the real batch function, real Delta tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from conf.policy import Policy, load_policy
from conf.settings import load_settings
from conf.source_mapping import load_mapping
from conf.table_spec import TableSpec
from conf.tables import IDENTIFIERS, IDENTITY_MAP
from pipelines.lake.snapshot import Snapshot, published
from pipelines.lake.writing.engines import make_writer
from pipelines.state.lake_state import LakeState
from pipelines.stream.batch.process import BatchProcessor
from pipelines.stream.batch.setup import BatchReport, StreamSetup
from tests.dirty.shapes import SHAPES
from tests.pipelines.lake_rows import make_lake
from transforms.identity.components import driver_components
from transforms.ingest.parse import RecordParser
from transforms.ingest.records import parsed_here

KEY = b"k" * 32
File = tuple[str, str, bytes]  # mapping, name, content


class DirectLake:
    """`land` is one batch. `seconds` are those of the last one's steps."""

    def __init__(self, folder: Path, policy: Policy | None = None) -> None:
        self.lake, self.policy = make_lake(folder), policy or load_policy()
        self.parser = RecordParser({name: load_mapping(name) for name in SHAPES}, self.policy, KEY)
        self.reports: list[BatchReport] = []
        self.processor = BatchProcessor(
            StreamSetup(
                lake=self.lake,
                writer=make_writer("delta_rs", self.lake),
                parser=self.parser,
                policy=self.policy,
                components=driver_components,
                settings=replace(load_settings("laptop"), compact_every_seconds=1e9),
                stream="direct",
                key_fingerprint="key",
                on_published=self.reports.append,
                open_state=partial(LakeState.load, policy=self.policy),
            )
        )

    def land(self, files: Iterable[File]) -> None:
        """Process files as one batch."""
        landed = list(files)
        received = pa.table(
            {
                "source": pa.array([f"{mapping}:here" for mapping, _, _ in landed], pa.string()),
                "mapping": pa.array([mapping for mapping, _, _ in landed], pa.string()),
                "feed": pa.array(["events"] * len(landed), pa.string()),
                "path": pa.array([name for _, name, _ in landed], pa.string()),
                "content": pa.array([content for _, _, content in landed], pa.binary()),
                "transport_at": pa.array([0] * len(landed), pa.timestamp("us", tz="UTC")),
            }
        )
        rows = parsed_here(received.to_batches(), self.parser)
        self.processor.process(lambda: rows, len(self.reports))

    def land_records(self, records: Sequence[Any], mapping: str = "native") -> None:
        """Process records as one batch, of one file of JSON lines."""
        name = f"{len(self.reports):04d}.jsonl"
        self.land([(mapping, name, b"\n".join(orjson.dumps(r) for r in records))])

    @property
    def snapshot(self) -> Snapshot:
        found = published(self.lake)
        assert found is not None
        return found

    def rows(self, spec: TableSpec, columns: list[str] | None = None) -> list[dict[str, Any]]:
        return self.snapshot.arrow(spec, columns).to_pylist()

    def members(self) -> dict[int, frozenset[str]]:
        """Persons by canonical id, each as its `namespace:value` members."""
        names = {r["node_id"]: f"{r['namespace']}:{r['value']}" for r in self.rows(IDENTIFIERS)}
        groups: dict[int, set[str]] = defaultdict(set)
        for r in self.rows(IDENTITY_MAP, ["node_id", "canonical_id"]):
            groups[r["canonical_id"]].add(names.get(r["node_id"], f"unclaimed:{names.get(-r['node_id'])}"))
        return {c: frozenset(g) for c, g in groups.items()}

    def contents(self, *specs: TableSpec) -> dict[str, list[str]]:
        """The content of tables, with persons named after their members instead of by minted ids."""
        members = {c: min(g) for c, g in self.members().items()}
        found = {}
        for spec in specs:
            has_person = "canonical_id" in spec.names
            columns = [*spec.with_role("content"), *(["canonical_id"] if has_person else [])]
            rows = self.rows(spec, columns)
            if has_person:
                rows = [r | {"canonical_id": members[r["canonical_id"]]} for r in rows]
            found[spec.full_name] = sorted(repr(sorted(r.items())) for r in rows)
        return found
