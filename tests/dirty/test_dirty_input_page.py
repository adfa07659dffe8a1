"""The page, the declared codes and the rules say the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from conf.bad_input import FLAGS, REASONS, pages_tables
from pipelines.stream.batch import admission
from tests.dirty.corpus import files, poison
from transforms.ingest import control, parse, subject
from transforms.ingest import deduplication as outcome
from transforms.ingest.mapping import extract, payload
from transforms.ingest.values import instants, normalize

PAGE = Path(__file__).parents[2] / "docs" / "dirty-input.md"
# What no payload of the corpus comes to: some take other events before them, a tombstone a topic, and the last one is
# a defect.
NOT_IN_THE_CORPUS = {
    *("conflicting_duplicate", "identifier_collision", "too_many_tenants"),
    *("tombstone", "unusable_decision", "unparseable"),
}


def test_the_page_has_the_declared_tables():
    assert pages_tables() in PAGE.read_text()


def test_the_rules_name_no_code_that_is_not_declared():
    """Seen to fail with a reason of the parser taken out of the declaration."""
    modules = (admission, control, extract, instants, normalize, parse, payload, outcome, subject)
    named = {
        value
        for module in modules
        for name, value in vars(module).items()
        if name.isupper()
        and name[0] != "_"
        and isinstance(value, str)
        and name not in ("ANY_OTHER", "CONTROL", "DEFAULT_TENANT")
    }
    assert named <= REASONS.keys() | FLAGS.keys()


@pytest.mark.thorough
def test_the_corpus_has_every_code_that_one_record_can_come_to():
    outcomes = [outcome for entry in (*poison(), *files()) for outcome in entry.outcomes]
    assert {r for o in outcomes for r in o.reasons} == REASONS.keys() - NOT_IN_THE_CORPUS
    assert {f for o in outcomes for f in o.flags} == FLAGS.keys()
