"""Writes the numbers of docs/capacity.md anew: `python -m benchmarks.report.capacity [--inputs FILE] [--print]`.

Figures come from benchmarks/results/usual.jsonl where they are on record, else from benchmarks/capacity.yaml, as do
the assumptions and prices. Every number says where it comes from.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks.report.capacity_model import (
    Assumptions,
    Capacity,
    Figure,
    Figures,
    Prices,
    Workload,
    capacity_of,
    declared,
)
from benchmarks.report.page import with_table
from benchmarks.report.record import recorded, results_of
from benchmarks.report.table import number
from pipelines.runtime.process_end import run_and_end

INPUTS = Path(__file__).parents[1] / "capacity.yaml"
PAGE = Path(__file__).parents[2] / "docs" / "capacity.md"
# Figure → the row on record that gives it; throughput of a machine is divided by its cores.
ON_RECORD = {
    "driver_events_per_minute": "backlog.driver_events_per_minute",
    "stored_ratio": "backlog.stored_ratio",
    "driver_bytes_per_node": "driver_memory.bytes_per_node",
    "driver_bytes_per_event": "driver_memory.bytes_per_event",
}
THROUGHPUT, CLUSTER = "backlog.events_per_minute", "cluster.events_per_minute"


def figures_of(raw: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Figures:
    """The declared figures, with those on record in their place."""
    found = {name: declared(Figure, dict(given), f"figures: {name}") for name, given in raw.items()}
    by_name = {row["name"]: row for row in rows if row["value"] is not None}
    for figure, name in ON_RECORD.items():
        if name in by_name:
            found[figure] = _figure(by_name[name], by_name[name]["value"], found[figure].unit)
    if (row := by_name.get(THROUGHPUT)) is not None:
        found["events_per_core_minute"] = _figure(
            row, row["value"] / row["conditions"]["cores"], "events/min"
        )
    if (row := by_name.get(CLUSTER)) is not None:
        found["cluster_core_share"] = _figure(row, row["value"] / row["baseline"]["laptop"], "ratio")
    return declared(Figures, found, "figures")


def _figure(row: Mapping[str, Any], value: float, unit: str) -> Figure:
    c = row["conditions"]
    return Figure(value, unit, f"`{row['name']}`, {c['scale']} scale, {c['cores']} cores, {c['on']}")


def page_of(inputs: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The generated part of the page."""
    figures = figures_of(inputs["figures"], rows)
    assumptions = declared(Assumptions, dict(inputs["assumptions"]), "assumptions")
    prices = declared(Prices, {**inputs["prices"], "as_of": str(inputs["prices"]["as_of"])}, "prices")
    workloads = [Workload(name, **given) for name, given in inputs["workloads"].items()]
    needs = [capacity_of(w, figures, assumptions, prices) for w in workloads]
    return "\n".join(
        [
            "**Figures**, measured unless it says otherwise",
            "",
            "| figure | value | from |",
            "|---|---|---|",
            *(
                _line(_words(name), f"{number(f['value'])} {f['unit']}", f["conditions"])
                for name, f in asdict(figures).items()
            ),
            "",
            "**Assumed**",
            "",
            "| assumption | value |",
            "|---|---|",
            *(_line(_words(name), number(value)) for name, value in asdict(assumptions).items()),
            "",
            f"**Example list price**, as of {prices.as_of}, in {prices.currency}; replace it by your own",
            "",
            "| price | value |",
            "|---|---|",
            *(
                _line(_words(n), f"{getattr(prices, n):g}")
                for n in ("core_hour", "memory_gib_hour", "storage_gib_month")
            ),
            "",
            "**Needed**",
            "",
            *_needs(needs, prices.currency),
        ]
    )


def _needs(needs: Sequence[Capacity], currency: str) -> list[str]:
    def row(what: str, value: Callable[[Capacity], str], rests_on: str) -> str:
        return _line(what, *map(value, needs), rests_on)

    return [
        _line("", *(n.workload.name for n in needs), "rests on"),
        "|---|" + "---|" * (len(needs) + 1),
        row("steady events a minute", lambda n: number(n.workload.events_per_minute), "given"),
        row(
            "… that a spike asks for",
            lambda n: _short(n.spike_rate),
            "spike factor, spike and recover minutes",
        ),
        row(
            "cores, index in the drivers",
            lambda n: number(n.cores_index_in_drivers),
            "events per core minute",
        ),
        row("cores, index in the tables", lambda n: number(n.cores_index_in_tables), "cluster core share"),
        row("drivers, each with some tenants' lake", lambda n: number(n.drivers), "driver events per minute"),
        row(
            "index of all users, GiB",
            lambda n: _short(n.index_gib_of_users),
            "nodes per user, bytes per node",
        ),
        row("… and of every day of history, GiB", lambda n: _short(n.index_gib_per_day), "bytes per event"),
        row("days that the drivers can hold", lambda n: _short(n.days_in_drivers), "driver index limit"),
        row(
            "so the index is in the …",
            lambda n: ("tables", "drivers")[n.is_index_in_drivers],
            "retention days",
        ),
        row("event keys in all of history, bn", lambda n: _short(n.event_keys / 1e9), "retention days"),
        row("**cores**", lambda n: f"**{number(n.cores)}**", "where the index is, utilisation"),
        row("cores for a spike without any lag", lambda n: number(n.cores_without_lag), "spike factor"),
        row("memory, GiB", lambda n: _short(n.memory_gib), "GiB per core, driver GiB, index"),
        row("stored a day, GiB", lambda n: _short(n.stored_gib_per_day), "bytes in per event, stored ratio"),
        row("stored, GiB", lambda n: _short(n.stored_gib), "retention days"),
        row(f"compute a month, {currency}", lambda n: _short(n.compute_money), "cores, memory, prices"),
        row(f"storage a month, {currency}", lambda n: _short(n.storage_money), "stored, price"),
        row(f"**a month, {currency}**", lambda n: f"**{_short(n.money)}**", "all of the above"),
        row(
            f"a million events, {currency}", lambda n: f"{n.money_per_million_events:.3f}", "all of the above"
        ),
    ]


def _short(value: float) -> str:
    return number(round(value)) if value >= 10 else number(round(value, 1))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("gib", "GiB")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.report.capacity", description=(__doc__ or "").splitlines()[0]
    )
    p.add_argument("--inputs", type=Path, default=INPUTS, help="your own figures, assumptions and prices")
    p.add_argument("--print", action="store_true", help="to standard output, and the page stays as it is")
    args = p.parse_args(argv)
    # Only what a laptop measured at its usual size; a large run has sizes of its own.
    rows = recorded(results_of("usual"))
    try:
        block = page_of(yaml.safe_load(args.inputs.read_text(encoding="utf-8")), rows)
    except (OSError, ValueError, KeyError, TypeError) as e:
        print(f"{args.inputs}: {e}; benchmarks/capacity.yaml shows what is needed", file=sys.stderr)
        return 1
    if args.print:
        print(block)
    else:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), block), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_and_end(main)
