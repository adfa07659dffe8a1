"""A value of its own in every field of the input, through the real program: raw values are only where it is declared.

Seen to fail with identifiers of unknown namespaces in the properties, and with touches of sessions that were not
declared as personal.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml

from conf.tables import ALL, OUTSIDE_BATCHES, QUARANTINE
from pipelines.lake.lake import Lake
from pipelines.lake.views import register_duckdb, view_statements
from pipelines.operations.decisions.inbox import INBOX
from pipelines.operations.quarantine.corrections import Corrections
from pipelines.operations.quarantine.selection import Selection
from pipelines.operations.requests import requests as requests
from tests.direct_lake import DirectLake
from tests.privacy.canaries import LOG, places
from transforms.ingest.parsed_schema import CARRIED, PARSED_SCHEMA
from transforms.ingest.records import parsed_here

ROOT = Path(__file__).parents[2]
COLUMNS = [(spec.full_name, column) for spec in (*ALL, *OUTSIDE_BATCHES) for column in spec.columns]
IDENTIFYING = {f"{table}.{c.name}" for table, c in COLUMNS if c.identifies}
PERSONAL = {f"{table}.{c.name}" for table, c in COLUMNS if c.personal}
INBOX_FILES = "lake/" + INBOX  # decisions as somebody has given them: a source of the lake's own

IDENTIFIERS = [
    f"cnry-{kind}" for kind in (
        "user", "device", "cookie", "session", "ignored", "blocked", "oversized", "unknown", "nested", "deep", "actor",
        "agent", "wrongactor", "late", "mail", "badmail", "csvuser", "csvunknown", "seguser", "sibling", "address",
        "alias", "number-7",
    )
]  # fmt: skip
PHONE, LONG_ID = "447700900987", "770177017701770177017"  # values that are digits
FREE = [
    f"cnry-{kind}"
    for kind in ("traits", "properties", "context", "uastring", "referrer", "free", "key", "csvfree")
]
REFUSED = [f"cnry-{kind}" for kind in ("broken", "notime", "nobody", "badelement")]
NAMES = [
    f"cnry-{kind}" for kind in ("eventid", "tenant", "name", "type", "platform", "campaign", "medium", "utm")
]
DECIDED = ["cnry-reason", "cnry-author"]
CORRECTED, CORRECTOR = "cnry-corrected", "cnry-corrector"  # an identifier in a correction, and who gave that
WAITING = ["cnry-asker", "cnry-origin"]  # in a request that no stream has taken


def native(event_id: str, minute: int, identifiers: object, **fields: object) -> dict:
    at = f"2026-03-01T10:{minute:02d}:00Z"
    return {
        "event_id": event_id,
        "tenant": "cnry-tenant",
        "timestamp": at,
        "identifiers": identifiers,
        **fields,
    }


def landed() -> list[object]:
    whole = {
        "user_id": "cnry-user", "device_id": "cnry-device", "cookie_id": ["cnry-cookie"], "session_id": "cnry-session",
        "secret_id": "cnry-ignored", "visitor_id": "cnry-blocked", "extension_id": "cnry-oversized" + "x" * 600,
        "email": "cnry-mail@example.org", "phone": "+" + PHONE, "crm_id": "cnry-unknown",
        "club_id": ["cnry-nested", {"a": "cnry-deep"}], "member_id": int(LONG_ID), "anonymous_id": "cnry-number-7",
    }  # fmt: skip
    return [
        native(
            "cnry-eventid", 0, whole, event_type="cnry-type", event_name="cnry-name", platform="cnry-platform",
            actor={"user_id": "cnry-actor", "agent_id": "cnry-agent"}, traits={"cnry-key": "cnry-traits"},
            properties={"p": "cnry-properties", "utm_source": "cnry-utm"}, free=["cnry-free"],
            context={
                "ip": "cnry-address", "user_agent": "cnry-uastring", "note": "cnry-context",
                "page": {"referrer": "https://cnry-referrer.example/"},
                "campaign": {"name": "cnry-campaign", "medium": "cnry-medium"},
            },
        ),
        native("e2", 1, {"device_id": "cnry-device", "email": "cnry-badmail"}, actor="cnry-wrongactor"),
        native("e3", 2, {"device_id": "other", "user_id": "cnry-late"}),
        native("e4", 3, {"user_id": "cnry-nobody"}, timestamp="cnry-notime"),
        native("e5", 4, {"crm_id": "cnry-nobody"}),
    ]  # fmt: skip


def run(world: Path, *command: str) -> None:
    """The program as somebody types it, with Spark's event log on; what it prints is kept with what it writes."""
    number = len(list((world / "said").iterdir()))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_CONF_DIR": str(world.parent / "spark")}
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.apps.cli", *command],
        cwd=world,
        env=environment,
        capture_output=True,
        check=False,
    )
    (world / "said" / f"{number}-{command[0]}").write_bytes(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr.decode()[-2000:]


def corrected(lake: Path, payload: dict) -> str:
    """The record whose time cannot be read, as `quarantine show --json` prints it, with another payload."""
    with duckdb.connect() as con:
        register_duckdb(con, Lake(lake))
        place = "SELECT source, origin, origin_ordinal FROM silver.quarantine WHERE 'no_timestamp' IN reasons"
        ((source, origin, ordinal),) = con.execute(place).fetchall()
    return json.dumps(
        {"source": source, "origin": origin, "origin_ordinal": ordinal, "payload": json.dumps(payload)}
    )


def waiting() -> dict:
    """The arguments of a replay, as the command asks a stream for it."""
    corrections = Corrections(WAITING[0], {("native:native", WAITING[1], 0): b"{}"})
    selection = Selection(origins=(WAITING[1],))
    return {
        "selection": selection.as_json(), "max_record_bytes": 2**20, "corrections": corrections.as_json(),
    }  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the program has written: lake, backups, logs, and what it has printed."""
    given = tmp_path_factory.mktemp("given")
    world = given / "world"
    for folder in ("native", "flat", "segment", "world/said", "spark", "world/events"):
        (given / folder).mkdir(parents=True)
    lines = [json.dumps(record) for record in landed()] + ['{"event_id": "e6", "user_id": "cnry-broken']
    (given / "native" / "a.jsonl").write_text("\n".join(lines))
    (given / "flat" / "a.csv").write_text(
        "event_id,timestamp,user_id,email,note,identifiers\n"
        'c1,2026-03-01T11:00:00Z,cnry-csvuser,,cnry-csvfree,"{""crm_id"":""cnry-csvunknown""}"\n'
    )
    call = '{"type":"%s","messageId":"m%d","timestamp":"2026-03-01T12:00:00Z","userId":"cnry-%s"%s}'
    calls = [
        ("identify", 1, "seguser", ""),
        ("track", 2, "badelement", ',"v":NaN'),
        ("alias", 3, "sibling", ',"previousId":"cnry-alias"'),
    ]
    body = ",".join(call % one for one in calls)
    (given / "segment" / "a.jsonl").write_text(f'{{"batch":[{body}]}}')
    (given / "spark" / "spark-defaults.conf").write_text(
        "spark.eventLog.enabled true\nspark.eventLog.compress false\n"
        f"spark.eventLog.dir {(world / 'events').as_uri()}\n"
    )
    policy = yaml.safe_load((ROOT / "conf" / "policies" / "default.yaml").read_text())
    policy["namespaces"]["secret_id"] = {"strength": "ignored"}
    policy["blocked_values"] = ["cnry-blocked"]
    rules = given / "policy.yaml"
    rules.write_text(yaml.safe_dump(policy))
    lake = ["--lake", str(world / "lake"), "--policy", str(rules)]
    sources = [part for m in ("native", "flat", "segment") for part in ("--source", f"{m}:{given / m}")]
    run(world, "run", "--once", *lake, *sources)
    two = ["user_id:cnry-user", "user_id:cnry-late", "--tenant", "cnry-tenant"]
    run(world, "merge", *two, "--reason", "cnry-reason", "--author", "cnry-author", "--force", *lake)
    run(world, "rebuild", "--yes", *lake)
    (given / "corrected.jsonl").write_text(corrected(world / "lake", native("e4", 3, {"user_id": CORRECTED})))
    payloads = ["--payloads", str(given / "corrected.jsonl"), "--author", CORRECTOR]
    run(world, "quarantine", "replay", *payloads, *lake)
    requests._ask(world / "lake", "replay", waiting())
    run(world, "backup", str(world / "backup"), *lake[:2])
    run(world, "backup", str(world / "backup-with-key"), "--with-key", *lake[:2])
    return world


@pytest.mark.spark
def test_raw_values_are_only_where_the_table_reference_says(world):
    found = places(world, world / "lake", [*IDENTIFIERS, PHONE, LONG_ID, *FREE, *REFUSED, *NAMES, *DECIDED])
    assert all("bronze.events.payload" in where for where in found.values()), found
    inbox = {p for where in found.values() for p in where if p.startswith(INBOX_FILES)}
    wrong = {}
    for canary, where in found.items():
        if canary in (*IDENTIFIERS, PHONE, LONG_ID, *REFUSED):
            allowed = IDENTIFYING | (inbox if canary in ("cnry-user", "cnry-late") else set())
        elif canary in (*FREE, *DECIDED):
            allowed = PERSONAL | (inbox if canary in DECIDED else set())
        else:  # what the sender calls things: in any column, and among the statistics of those that are not personal
            allowed = {f"{table}.{c.name}" for table, c in COLUMNS} | {
                f"{table}/{LOG}" for table, _ in COLUMNS
            }
            # The tenant is in the decision, and said to whoever has decided it.
            allowed |= inbox | {"said/1-merge"} if canary == "cnry-tenant" else set()
        if where - allowed:
            wrong[canary] = where - allowed
    assert not wrong
    kept = {c for c in (*IDENTIFIERS, PHONE, LONG_ID) if "silver.identifiers.value" in found[c]}
    not_kept = {"ignored", "blocked", "oversized", "deep", "wrongactor", "badmail"}
    assert kept == {*IDENTIFIERS, PHONE, LONG_ID} - {f"cnry-{kind}" for kind in not_kept}


@pytest.mark.spark
def test_a_correction_is_where_payloads_are_and_a_request_nowhere_but_in_its_file(world):
    found = places(world, world / "lake", [CORRECTED, CORRECTOR, *WAITING])
    assert found[CORRECTED] == {"bronze.corrections.payload", "silver.identifiers.value"}
    assert found[CORRECTOR] == {"bronze.corrections.author"} <= PERSONAL
    (request,) = found[WAITING[0]]
    assert found[WAITING[1]] == {request}
    assert request.startswith(f"lake/{requests._FOLDER}/")


def test_keys_and_headers_of_a_topics_record_are_in_bronze_alone(tmp_path):
    """What a broker has beside the payload, through the batch itself; there is no broker here."""
    lake = DirectLake(tmp_path / "lake")
    values = [json.dumps(native("k1", 0, {"user_id": "cnry-user"})).encode(), b'{"broken', None]
    columns = dict.fromkeys(("source", "path"), "native:topic") | {"mapping": "native", "feed": "events"}
    records = [
        columns | {
            "content": value, "transport_at": 1_700_000_000_000_000, "offset": at, "record_key": b"cnry-recordkey",
            "headers": [{"key": "cnry-headername", "value": b"cnry-header"}],
        }
        for at, value in enumerate(values)
    ]  # fmt: skip
    names = ("source", "mapping", "feed", "path")
    schema = pa.schema(
        [
            *((name, pa.string()) for name in names),
            ("content", pa.binary()),
            ("transport_at", pa.timestamp("us", tz="UTC")),
            ("offset", pa.int64()),
            *(PARSED_SCHEMA.field(name) for name in CARRIED),
        ]
    )
    rows = parsed_here(pa.Table.from_pylist(records, schema=schema).to_batches(), lake.parser)
    lake.processor.process(lambda: rows, 0)
    lake.processor.compact()
    assert len(lake.rows(QUARANTINE)) == 2
    found = places(tmp_path, lake.path, ["cnry-recordkey", "cnry-headername", "cnry-header", "cnry-user"])
    assert found["cnry-recordkey"] == {"bronze.events.record_key"} <= IDENTIFYING
    assert found["cnry-headername"] == found["cnry-header"] == {"bronze.events.headers"} <= IDENTIFYING
    assert found["cnry-user"] == {"bronze.events.payload", "silver.identifiers.value"}


@pytest.mark.spark
def test_no_view_shows_an_identifier(world):
    with duckdb.connect() as con:
        register_duckdb(con, Lake(world / "lake"))
        for name in view_statements():
            shown = repr(con.execute(f"SELECT * FROM {name}").fetchall()).lower()
            assert not [c for c in (*IDENTIFIERS, PHONE, LONG_ID, *REFUSED) if c in shown], name
        assert "cnry-properties" in repr(con.execute("SELECT * FROM gold.events").fetchall())


@pytest.mark.spark
def test_what_was_scanned_is_all_that_the_program_writes(world):
    """Or nothing would be found where nothing was looked for."""
    kinds = {str(f.relative_to(world)).split("/")[0] for f in world.rglob("*") if f.is_file()}
    assert kinds == {"lake", "lake.key", "backup", "backup-with-key", "events", "said"}
    assert len(list((world / "events").iterdir())) >= 1
    assert {p.name for p in (world / "lake").iterdir()} > {"bronze", "silver", "gold", "ops", "_checkpoints"}
