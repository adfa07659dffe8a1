"""GraphFrames' opinion of published persons: it agrees with a healthy lake, and names a row that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from conf.tables import IDENTITY_MAP, REJECTED_EDGES
from pipelines.apps.cli.__main__ import main
from pipelines.generator import generate
from pipelines.lake.snapshot import Snapshot, published
from pipelines.operations.rebuild.graph_check import (
    ANOTHER_PERSON,
    MISSING,
    NOT_HOST,
    NOT_LOGGED,
    OTHER_TENANT,
    GraphCheck,
    as_text,
    check_components,
)
from tests.direct_lake import DirectLake


def event(
    number: int, tenant: str = "default", kind: str = "page_view", **identifiers: str
) -> dict[str, object]:
    return {
        "event_id": f"{tenant}-{number}",
        "tenant": tenant,
        "timestamp": 1_700_000_000 + 3600 * number,
        "event_type": kind,
        "platform": "web",
        "identifiers": identifiers,
    }


# Two people who share a kiosk; two whose phone and laptop were seen together, which a limit refuses; a chain of four.
SHARED = [event(n, device_id="kiosk", user_id=f"k{n}") for n in range(3)]
REFUSED = [
    event(10, device_id="phone", user_id="u1"),
    event(11, device_id="laptop", user_id="u2"),
    event(12, device_id="phone", cookie_id="both"),
    event(13, device_id="laptop", cookie_id="both"),
]
CHAIN = [
    event(20, cookie_id="c1", user_id="ann"),
    event(21, cookie_id="c2", user_id="ann"),
    event(22, cookie_id="c2", device_id="d2"),
]
OTHERS = [event(n, "other", cookie_id="c1", user_id="ann") for n in (30, 31)]
ALONE = [event(40, cookie_id="alone"), event(41, cookie_id="lonely"), event(42, cookie_id="single")]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> DirectLake:
    """Everything that parts people, and a generated world, in several batches: base and hot rows."""
    folder = tmp_path_factory.mktemp("graph-check")
    made = DirectLake(folder / "lake")
    made.feed([*SHARED, *REFUSED])
    made.processor.compact()
    generate(150, 1500, 3, folder / "events", events_per_file=1500)
    made.feed(next((folder / "events").glob("*.jsonl")).read_bytes())
    made.feed([*CHAIN, *OTHERS, *ALONE])
    made.processor.close()
    decisions = (
        ["merge", "cookie_id:alone", "cookie_id:lonely"],
        ["split", "user_id:ann", "--identifier", "device_id:d2", "--tenant", "default"],
        ["keep-apart", "user_id:k0", "user_id:k1"],
    )
    for words in decisions:
        assert main([*words, "--reason", "seen in the shop", "--lake", str(made.path)]) == 0, words
    return made


def snapshot_of(lake: DirectLake) -> Snapshot:
    found = published(lake.lake)
    assert found is not None
    return found


def with_rows(lake: DirectLake, rows: pa.Table) -> Snapshot:
    """The published state with other rows of silver.identity_map. The lake itself stays as it is."""
    snapshot = snapshot_of(lake)
    path = lake.lake.table_path(IDENTITY_MAP)
    before = DeltaTable(path).version()
    write_deltalake(path, rows.cast(IDENTITY_MAP.arrow), mode="overwrite")
    wrong = DeltaTable(path).version()
    write_deltalake(path, DeltaTable(path, version=before).to_pyarrow_table(), mode="overwrite")
    empty = {IDENTITY_MAP.hot.full_name: 0}
    return replace(snapshot, table_versions=snapshot.table_versions | {IDENTITY_MAP.full_name: wrong} | empty)


def changed(rows: pa.Table, node: int, column: str, value: object) -> pa.Table:
    """The rows with one cell changed."""
    values = [
        value if n == node else v
        for n, v in zip(*(rows[c].to_pylist() for c in ("node_id", column)), strict=True)
    ]
    place = rows.schema.get_field_index(column)
    return rows.set_column(place, rows.schema.field(place), pa.array(values, rows.schema.field(place).type))


@pytest.fixture(scope="module")
def owners(lake: DirectLake) -> pa.Table:
    """The published rows of silver.identity_map."""
    return snapshot_of(lake).arrow(IDENTITY_MAP)


def node_of(lake: DirectLake, value: str) -> int:
    """The node of `namespace:value` in the default tenant."""
    namespace, text = value.split(":")
    return lake.parser._identifiers.node("default", namespace, text).node_id


def person_of(owners: pa.Table, node: int) -> int:
    return dict(zip(owners["node_id"].to_pylist(), owners["canonical_id"].to_pylist(), strict=True))[node]


def check(lake: DirectLake, snapshot: Snapshot, spark) -> GraphCheck:
    return check_components(snapshot, lake.policy, spark)


def test_it_agrees_with_a_healthy_lake_and_counts_what_the_rules_cut(lake, spark):
    found = check(lake, snapshot_of(lake), spark)
    assert found.agrees, as_text(found)
    refused = snapshot_of(lake).arrow(REJECTED_EDGES)["reason"].to_pylist()
    assert {r.split(":")[0] for r in refused} == {"limit", "decision"}
    assert found.explained["limit"] == sum(r.startswith("limit") for r in refused)
    assert found.explained["decision"] >= 1
    assert found.explained["shared_identifier"] >= 3
    assert "agrees: all" in as_text(found)
    assert json.loads(json.dumps(found.as_dict()))["agrees"] is True
    assert not list((lake.path / "_stitchlake/graph-check").iterdir())


def test_every_kind_of_wrong_row_is_named_and_no_other_row(lake, owners, spark):
    """One row of each kind, in groups that have nothing to do with one another."""
    nobody = 999_999_999_999
    another, two, single, solo, kiosk, foreign, missing = (
        node_of(lake, value)
        for value in (
            "cookie_id:c2",
            "user_id:u2",
            "cookie_id:alone",
            "cookie_id:single",
            "device_id:kiosk",
            "user_id:ann",
            "user_id:k0",
        )
    )
    rows = changed(owners, another, "canonical_id", person_of(owners, node_of(lake, "user_id:u1")))
    rows = changed(rows, two, "canonical_id", nobody)
    rows = changed(rows, single, "canonical_id", person_of(owners, node_of(lake, "user_id:k1")))
    rows = changed(rows, solo, "canonical_id", nobody + 2)
    rows = changed(rows, kiosk, "canonical_id", nobody + 1)
    rows = changed(rows, foreign, "tenant", "other")
    rows = rows.filter(pc.not_equal(rows["node_id"], missing))
    found = check(lake, with_rows(lake, rows), spark)
    named = {(row.node_id, row.reason) for row in found.wrong}
    assert named >= {
        (another, ANOTHER_PERSON),
        (two, ANOTHER_PERSON),
        (single, ANOTHER_PERSON),
        (solo, NOT_LOGGED),
        (kiosk, NOT_HOST),
        (foreign, OTHER_TENANT),
        (missing, MISSING),
    }
    # Of two identifiers that disagree either may be the wrong one.
    others = {node for node, _ in named} - {another, two, single, solo, kiosk, foreign, missing}
    assert others <= {
        node_of(lake, value) for value in ("device_id:laptop", "cookie_id:both", "cookie_id:lonely")
    }
    text = as_text(found)
    assert f"node {another} (cookie_id)" in text
    assert not {"c2", "u2", "kiosk", "ann"} & set(text.replace(",", " ").split())
