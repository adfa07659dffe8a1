"""The gate of downstream jobs: a job does not publish from tables that the newest quality run found broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from conf.errors import Refusal
from conf.table_spec import TableSpec
from conf.tables import ALL, BATCHES, BY_NAME
from pipelines.lake.lake import Lake, with_hot_parts
from pipelines.lake.snapshot import published
from pipelines.lake.views import ANALYST_VIEWS, view_statements
from pipelines.operations.quality.run import DOCS, newest_run, summary

_QUOTES = str.maketrans("", "", '`"')
_PARTS = {spec.full_name: base for base in ALL for spec in with_hot_parts((base,))}
_SHOWN = 5


class QualityBroken(Refusal):
    """A table that a downstream job relies on broke a critical expectation; the message says which, and the way out."""


def require_quality(
    lake: Lake, queries: Iterable[str], despite: bool = False, say: Callable[[str], None] = lambda line: None
) -> None:
    """QualityBroken when the newest run found a table broken that one of `queries` relies on.

    `despite` publishes knowingly, and says what is broken. No run at all, and one of an older batch, are let through
    and reported: how often quality is checked is a matter of schedule, and no reason to stop a job.
    """
    run, snapshot = newest_run(lake), published(lake)
    if run is None:
        say("its quality was never checked: `stitchlake quality` does")
        return
    relied_on = {spec.full_name for query in queries for spec in tables_behind(query)}
    broken = [row for row in run.broken_critical if _PARTS[row["suite"]].full_name in relied_on]
    last = snapshot.batch_id if snapshot else run.checked_batch_id
    if not broken:
        if run.checked_batch_id < last:
            say(f"its quality is known as of batch {run.checked_batch_id}, and batch {last} is published")
        return
    shown = summary(broken[:_SHOWN]) + (f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else "")
    found = f"the quality run of batch {run.checked_batch_id} found critical expectations broken: {shown}"
    if despite:
        say(f"{found}; publishing all the same")
        return
    raise QualityBroken(
        f"{found}; nothing was written. See {Path(lake.path / DOCS / 'index.html')}, repair it and run "
        "`stitchlake quality` again, or publish knowingly with --despite-quality"
    )


def tables_behind(query: str) -> set[TableSpec]:
    """The tables that the answer to a query depends on: those it names, directly or by a view, and what these are made
    from. All of them where it names none that is known."""
    found = _named(query)
    if not found:
        return set(ALL)
    views = view_statements()
    behind: set[TableSpec] = {BATCHES}  # which rows are published is there
    waiting = list(found)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in ANALYST_VIEWS:
            waiting += _named(views[name])
            continue
        spec = _PARTS[name.removesuffix("_live")]
        behind.add(spec)
        waiting += spec.made_from
    return behind


def _named(query: str) -> set[str]:
    text = re.sub(r"\s*\.\s*", ".", query.translate(_QUOTES).lower())
    known = {*_PARTS, *(f"{name}_live" for name in BY_NAME), *ANALYST_VIEWS}
    return {name for name in re.findall(r"\b(?:bronze|silver|gold|ops)\.\w+", text) if name in known}
