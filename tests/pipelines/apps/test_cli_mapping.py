"""`stitchlake mapping`: what it shows for people and for programs, and what it says to a mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conf.source_mapping import shipped_mappings
from pipelines.apps.cli.__main__ import main

SAMPLES = Path(__file__).parents[2] / "samples"


def test_it_shows_events_identifiers_what_was_left_out_and_the_sums(capsys):
    assert main(["mapping", "mini_dmp", str(SAMPLES / "mini_dmp.jsonl")]) == 0
    said = capsys.readouterr().out
    blocks = said.split("\n\n")
    assert blocks[1].startswith("record 0, event 1\n")
    assert "  strong          email:ada@example.com\n" in blocks[1]
    assert "  anchor          cookie_id:c1" in blocks[1]
    assert "  left out        crm_key:k-9  (unknown_namespace)\n" in blocks[2]
    assert blocks[3] == "record 2: refused, no_events\n  tenant          default"
    assert "  actor           agent_id:helper-1\n" in said
    assert "6 records → 9 events = 6 valid + 3 quarantined + 0 duplicate\n" in blocks[-1]
    assert "  strong          email: 2 values in 2 events\n" in blocks[-1]
    assert "  of envelopes    exported_at 1; kept in bronze.events only" in blocks[-1]


def test_the_limit_is_of_what_is_shown_and_not_of_what_is_counted(capsys):
    words = ["mapping", "snowplow", str(SAMPLES / "snowplow.csv"), "--json"]
    assert main(words) == 0
    whole = json.loads(capsys.readouterr().out)
    assert main([*words, "--limit", "2"]) == 0
    two = json.loads(capsys.readouterr().out)
    assert two["events"] == whole["events"][:2]
    assert two["summary"] == whole["summary"]
    counts = two["summary"]
    assert (
        counts["received_count"]
        == 9
        == sum(counts[f"{n}_count"] for n in ("valid", "quarantined", "duplicate"))
    )


def test_ones_own_mapping_and_policy_are_tried(tmp_path, capsys):
    mapping, policy, events = tmp_path / "crm.yaml", tmp_path / "policy.yaml", tmp_path / "e.jsonl"
    mapping.write_text("fields: {timestamp: at}\nidentifiers: {fields: {member: who, email: mail}}\n")
    policy.write_text("namespaces:\n  member: {strength: unique}\n  email: {strength: ignored}\n")
    events.write_text('{"at": 1714564800, "who": " m1 ", "mail": "a@example.com", "note": 1}\n')
    assert main(["mapping", str(mapping), str(events), "--policy", str(policy)]) == 0
    said = capsys.readouterr().out
    assert "  unique          member:m1\n" in said
    assert "  left out        email:a@example.com  (ignored_namespace)\n" in said
    assert "  no path takes   note 1; kept in properties" in said


def test_the_list_names_every_shipped_mapping(capsys):
    assert main(["mapping", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert tuple(m["name"] for m in listed) == shipped_mappings()
    assert all(m["description"] for m in listed)
    assert main(["mapping", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(listed)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a mapping and a file"),
        (["natve", "x.jsonl"], "there is no source mapping 'natve'"),
        (["native", "x.jsonl"], "x.jsonl is not a file"),
        (["native", "notes.txt"], "unknown extension"),
        (["broken.yaml", "notes.txt"], "broken.yaml: fields.timestamp: is missing"),
        (["native", "notes.txt", "--limit", "-1"], "--limit must be 0 or more"),
    ],
)
def test_a_mistake_is_one_line_with_the_way_out_and_exit_code_2(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("x")
    Path("broken.yaml").write_text("fields: {event_id: id}\n")
    assert main(["mapping", *words]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("stitchlake mapping: ")
    assert said in complaint
    assert complaint.count("\n") == 1
