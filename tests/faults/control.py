"""The control: the same product with transaction ids switched off. If the suite cannot see that, it can see nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from deltalake import DeltaTable

from conf.tables import BATCHES, BRONZE_EVENTS
from tests.faults.cases import Case


@contextmanager
def without_transaction_ids() -> Iterator[None]:
    """No table remembers who has written it: a batch that is repeated writes everything again."""
    with mock.patch.object(DeltaTable, "transaction_version", return_value=None):
        yield


def cases_of_control(cases: list[Case]) -> list[Case]:
    """A batch killed once at each table, tables in their order."""
    return [
        case
        for case in cases
        if len(case.kills) == 1
        and case.kills[0].point.startswith("append.")
        and (case.kills[0].op, case.kills[0].batch, case.kills[0].then) == ("stream 1", 1, "retry")
        and (case.kills[0].others, case.kills[0].signal) == ("in_order", "kill")
    ]


def must_fail(case: Case) -> bool:
    """Between the first table's commit and the publication: some tables have the batch's rows, others not yet."""
    kill = case.kills[0]
    is_first = kill.table == BRONZE_EVENTS.full_name and kill.point != "append.after"
    is_published = kill.table == BATCHES.full_name and kill.point == "append.after"
    return not (is_first or is_published)
