"""`stitchlake profile`: whom an id means, and what is said when it means nobody."""

from __future__ import annotations

import json

import pytest

from conf.policy import load_policy
from conf.tables import IDENTIFIERS, IDENTITY_MAP, IDENTITY_REDIRECTS, PROFILES, SESSIONS
from pipelines.apps.cli.__main__ import main
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from tests.pipelines.lake_rows import make_lake, minute, publish, rows_of

pytestmark = pytest.mark.thorough  # many small tables; left to the whole run

ADA, PHONE, IP, TWIN = 11, 12, 13, 21
VALUE = "ada@example.com"


@pytest.fixture
def lake(lake_dir):
    """Ada (person 7, formerly 9 as well) with an e-mail and a phone; another tenant has the same e-mail."""
    lake = make_lake(lake_dir)
    writer = DeltaRsWriter(lake)

    def put(spec, *rows):
        stamp = "updated_batch_id" if "updated_batch_id" in spec.names else "batch_id"
        writer.append(spec, rows_of(spec, *({stamp: 1, **row} for row in rows)), Txn("s", 1))

    put(
        IDENTIFIERS,
        {"node_id": ADA, "namespace": "email", "value": VALUE},
        {"node_id": PHONE, "namespace": "device_id", "value": "phone-1"},
        {"node_id": IP, "namespace": "ip_address", "value": "10.0.0.1"},
        {"node_id": TWIN, "namespace": "email", "value": VALUE, "tenant": "other"},
    )
    put(
        IDENTITY_MAP.hot,
        {"node_id": ADA, "canonical_id": 7, "is_shared": False},
        {"node_id": PHONE, "canonical_id": 7, "is_shared": True},
        {"node_id": TWIN, "canonical_id": 8, "tenant": "other"},
    )
    put(IDENTITY_REDIRECTS.hot, {"retired_canonical_id": 9, "canonical_id": 7})
    put(
        PROFILES.hot,
        {"canonical_id": 7, "session_count": 12, "is_identified": True, "platforms": ["mobile", "web"]},
        {"canonical_id": 8, "tenant": "other"},
    )
    put(
        SESSIONS.hot,
        *(
            {"session_id": n, "owner_node_id": ADA, "start_at": minute(n), "end_at": minute(n + 0.5)}
            for n in range(12)
        ),
    )
    publish(lake, writer, 1)
    return lake


def ask(lake, *words: str) -> int:
    return main(["profile", *words, "--lake", str(lake.path)])


def test_a_person_is_shown_in_sections(lake, capsys):
    assert ask(lake, "7") == 0
    said = capsys.readouterr().out
    assert said.startswith("person 7 of tenant default\n  identified\n")
    for part in (
        "counts",
        "platforms\n  mobile, web",
        "touches",
        f"email:{VALUE}",
        "(shared with others)",
        "10 of 12",
    ):
        assert part in said
    assert "12  sessions\n" in said
    assert "anonymous sessions before first login" in said


def test_a_retired_id_leads_to_its_successor_and_says_so(lake, capsys):
    assert ask(lake, "9") == 0
    said = capsys.readouterr().out
    assert "person 7 of" in said
    assert "9 is retired and redirects to 7" in said
    assert ask(lake, "9", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["canonical_id"], found["redirected_from"], found["retired_ids"]) == (7, 9, [9])


@pytest.mark.parametrize("spelling", [VALUE, " Ada@Example.COM "])
def test_an_identifier_is_found_in_any_usual_spelling(lake, capsys, spelling):
    assert ask(lake, f"email:{spelling}", "--tenant", "default", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["canonical_id"] == 7
    assert {i["namespace"] for i in found["identifiers"]} == {"email", "device_id"}
    assert found["sessions"][0]["start_at"] == "2026-03-01T12:11:00.123456Z"
    assert found["counts"]["session_count"] == 12


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["77"], 1, "there is no person 77"),
        (["7", "--tenant", "other"], 1, "there is no person 7 in tenant 'other'"),
        (["email:nobody@example.com"], 1, "nobody has that email"),
        (["email:nonsense"], 1, "never counts (malformed_identifier)"),
        (["ip_address:10.0.0.1"], 1, "belong to nobody"),
        ([f"email:{VALUE}"], 2, "exists in 2 tenants; choose one with --tenant: default, other"),
        (["ada"], 2, "namespace:value"),
        (["shoe_size:44"], 2, "'shoe_size' is not a namespace of the policy"),
        (["7", "--policy", "nowhere.yaml"], 2, "nowhere.yaml"),
    ],
)
def test_an_id_that_is_nobodys_is_one_line_without_the_value(lake, capsys, words, code, said):
    assert ask(lake, *words) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    for value in (VALUE, "nobody@example.com", "nonsense", "10.0.0.1"):
        assert value not in error


def test_without_a_lake_it_says_how_to_make_one(tmp_path, capsys):
    assert main(["profile", "7", "--lake", str(tmp_path / "nowhere")]) == 1
    assert "stitchlake run --source" in capsys.readouterr().err


def test_the_shipped_policy_knows_the_namespaces_used_here():
    assert {"email", "device_id", "ip_address"} <= set(load_policy().by_name)
