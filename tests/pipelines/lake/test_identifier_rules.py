"""A lake goes on only under the rules that made nodes of its identifiers, or rules under which each is what it was."""

from __future__ import annotations

from pathlib import Path

import phonenumbers
import pytest

from conf import identifier_rules as declared
from conf.identifier_rules import identifier_rules
from conf.policy import load_policy, policy_from_dict
from conf.settings import load_settings
from conf.tables import BATCHES, IDENTIFIERS
from pipelines.apps import run_stream as stream
from pipelines.lake.identifier_rules import changed_identifiers, other_identifier_rules, recorded_rules
from pipelines.lake.lake import Lake
from pipelines.lake.snapshot import published
from pipelines.lake.writing.delta_rs_writer import DeltaRsWriter
from pipelines.lake.writing.writer import Txn
from pipelines.operations.attempt import RebuildRefused
from pipelines.operations.decisions.inbox import DecisionProblem, apply_waiting
from pipelines.operations.rebuild.backfill import rebuild
from pipelines.operations.rebuild.dates import Dates
from pipelines.operations.requests.holder import NotReady, holding
from pipelines.runtime import fingerprint
from pipelines.stream.batch.publish import Publication, publication_row
from tests.direct_lake import DirectLake
from tests.pipelines.old_lake import old, unpacked  # noqa: F401 (fixtures)
from transforms.ingest.values.normalize import Normalizer

POLICY, SETTINGS = load_policy(), load_settings("laptop")


@pytest.fixture
def lake(tmp_path: Path) -> DirectLake:
    world = DirectLake(tmp_path / "lake")
    people = {"email": "Ann@Example.org", "phone": "+44 7700 900123", "user_id": 7}
    world.feed([{"event_id": "1", "timestamp": "2026-03-02T09:00:00Z", "identifiers": people}])
    return world


def row(lake: DirectLake | Lake) -> dict:
    snapshot = published(lake if isinstance(lake, Lake) else lake.lake)
    assert snapshot is not None
    return snapshot.row | {"rules": recorded_rules(snapshot)}


def without_recorded_rules(lake: DirectLake, identifier: str | None = None) -> None:
    """As an older program would have left it, with an identifier that it spelled in a way of its own."""
    snapshot = published(lake.lake)
    assert snapshot is not None
    writer = DeltaRsWriter(lake.lake)
    if identifier is not None:
        rows = snapshot.arrow(IDENTIFIERS).slice(0, 1).to_pylist()
        rows = [rows[0] | {"namespace": "email", "value": identifier, "node_id": 1}]
        writer.append(
            IDENTIFIERS, IDENTIFIERS.arrow.empty_table().from_pylist(rows, IDENTIFIERS.arrow), Txn("t", 1)
        )
    versions = snapshot.table_versions | {IDENTIFIERS.full_name: lake.lake.version(IDENTIFIERS)}
    batch_id, facts = snapshot.batch_id + 1, (POLICY.fingerprint, snapshot.row["key_fingerprint"], "{}")
    writer.append(
        BATCHES,
        publication_row(Publication("s", "compaction", batch_id, 0, versions, {}, *facts)),
        Txn("t", 2),
    )


def refusals(lake: DirectLake, tmp_path: Path) -> list[str]:
    """What a stream, a request, a decision and a rebuild of some days say."""
    said = []
    with pytest.raises(stream.PolicyChanged) as streaming:
        stream._refuse_other_policy(published(lake.lake), POLICY)
    said.append(str(streaming.value))
    with pytest.raises(NotReady) as request, holding(lake.path, POLICY, SETTINGS):
        pass
    said.append(str(request.value))
    with pytest.raises(DecisionProblem) as decision:
        apply_waiting(lake.path, POLICY, SETTINGS)
    said.append(str(decision.value))
    with pytest.raises(RebuildRefused, match="leave the dates out"):
        rebuild(lake.path, POLICY, SETTINGS, spark=no_spark, dates=Dates(None, None))
    return said


def no_spark() -> None:
    raise AssertionError("no Spark is needed here")


def test_every_batch_records_what_makes_nodes_of_identifiers(lake):
    assert row(lake)["rules"] == identifier_rules(POLICY) != {}
    assert set(identifier_rules(POLICY)) == {"rules", "unicode", "phonenumbers"}
    lake.processor.compact()
    assert row(lake)["rules"] == identifier_rules(POLICY)


def test_another_version_of_the_telephone_tables_asks_for_a_rebuild(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(phonenumbers, "__version__", "99.0.0")
    for said in refusals(lake, tmp_path):
        assert "phonenumbers" in said
        assert "now 99.0.0" in said
        assert "stitchlake rebuild" in said
        assert "\n" not in said
    assert rebuild(lake.path, POLICY, SETTINGS, spark=no_spark) is not None
    assert row(lake)["rules"]["phonenumbers"] == "99.0.0"
    with holding(lake.path, POLICY, SETTINGS):
        pass


def test_other_rules_of_the_program_do_as_well(lake, tmp_path, monkeypatch):
    monkeypatch.setattr(declared, "RULES", "0")
    assert all("rules 1, now 0" in said for said in refusals(lake, tmp_path))


def test_so_does_another_table_of_mail_providers_where_the_policy_reads_it(monkeypatch):
    spaces = {"email": {"strength": "strong", "normalize": {"kind": "email", "providers": True}}}
    reads_it = policy_from_dict({"namespaces": spaces})
    before, not_read = identifier_rules(reads_it), identifier_rules(POLICY)
    monkeypatch.setattr(declared, "email_providers", dict)
    assert identifier_rules(reads_it)["email_providers"] != before["email_providers"]
    assert identifier_rules(POLICY) == not_read


def test_a_lake_of_before_is_accepted_once_where_every_identifier_is_what_it_was(lake):
    without_recorded_rules(lake)
    assert row(lake)["rules"] == {}
    with holding(lake.path, POLICY, SETTINGS):
        pass
    lake.restart()
    lake.feed([{"event_id": "2", "timestamp": "2026-03-02T09:00:00Z", "identifiers": {"user_id": 8}}])
    assert row(lake)["rules"] == identifier_rules(POLICY)


def test_a_lake_of_before_with_an_identifier_of_another_spelling_is_to_be_rebuilt_once(lake, tmp_path):
    without_recorded_rules(lake, "\u200bann@example.org")
    for said in refusals(lake, tmp_path):
        assert "have another spelling under this version's rules (email 1)" in said
        assert "ann" not in said
        assert "stitchlake rebuild" in said
    assert rebuild(lake.path, POLICY, SETTINGS, spark=no_spark) is not None
    snapshot = published(lake.lake)
    assert snapshot is not None
    assert not changed_identifiers(snapshot, POLICY)
    assert other_identifier_rules(snapshot, POLICY) is None


def test_another_unicode_asks_only_where_it_changes_something(lake, monkeypatch):
    monkeypatch.setattr(declared.unicodedata, "unidata_version", "99.0")
    snapshot = published(lake.lake)
    assert snapshot is not None
    assert other_identifier_rules(snapshot, POLICY) is None
    monkeypatch.setattr("pipelines.lake.identifier_rules.changed_identifiers", lambda *_: {"email": 2})
    assert "(email 2)" in str(other_identifier_rules(snapshot, POLICY))


def test_the_sample_of_an_old_lake_may_go_on(old):  # noqa: F811
    snapshot = published(old)
    assert snapshot is not None
    assert (recorded_rules(snapshot), other_identifier_rules(snapshot, POLICY)) == ({}, None)


def test_a_batch_that_is_half_written_is_not_finished_with_other_tables(monkeypatch):
    before = fingerprint.code_fingerprint()
    monkeypatch.setattr(phonenumbers, "__version__", "99.0.0")
    fingerprint.code_fingerprint.cache_clear()
    try:
        assert fingerprint.code_fingerprint() != before
        names = [name for name, _ in fingerprint._modules(fingerprint.files("conf"), "conf")]
        assert {"conf/identifiers/email_providers.yaml", "conf/identifiers/blocked_values.yaml"} < set(names)
    finally:
        monkeypatch.undo()
        fingerprint.code_fingerprint.cache_clear()


ANSWERS = {
    ("email", " Ann.Smith+x@GoogleMail.com,"): "ann.smith+x@googlemail.com",
    ("email", "\u200bａnn@example.org"): "ann@example.org",
    ("email", "Ann <mailto:ann@example.org>"): "ann@example.org",
    ("phone", "+44 (0)7700 900123"): "+447700900123",
    ("phone", "447700900123.0"): "+447700900123",
    ("phone", "4.477009001E+11"): None,
    ("user_id", "e\u0301\u00a0\u0000b"): "é b",
    ("user_id", "123.0"): "123",
    ("user_id", 1e22): "10000000000000000000000",
    ("user_id", "00123.0"): "00123.0",
    ("advertising_id", "6D92078A8246BA4AE5B2B4E1A1D8F0C3"): "6d92078a-8246-ba4a-e5b2-b4e1a1d8f0c3",
    ("wallet_address", "0xAB" + "Cd" * 19): "0xab" + "cd" * 19,
}  # fmt: skip


def test_the_number_of_the_rules_stands_for_these_answers():
    """Whoever has to change an answer raises `RULES`, and the number here with it."""
    usable = Normalizer(POLICY).usable
    assert {place: usable(place[1], place[0])[0] for place in ANSWERS} == ANSWERS
    assert declared.RULES == "1"
