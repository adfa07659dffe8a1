"""Run the fault suite: `make test-faults`, or a part of it with `make test-faults-quick`.

One line per case; the same as JSON in tests/faults/results.jsonl. Exit 1 when a case failed, 3 when none did and a
level was skipped because this system does not allow it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import cases as fault_list
from tests.faults import disk, real
from tests.faults.cases import Case
from tests.faults.control import cases_of_control, must_fail
from tests.faults.delivery import Delivery, run_delivery
from tests.faults.in_process import Verdict
from tests.faults.workers import run_cases

FAILED, INCOMPLETE = 1, 3  # exit codes; 2 is bad usage
RESULTS = Path(__file__).with_name("results.jsonl")


@dataclass(frozen=True)
class Result:
    """One line: a case and what came of it. `verdict`: passed, failed, waiting, or skipped; problems say why."""

    level: str
    point: str
    batch: str
    signal: str
    source: str
    engine: str
    table: str
    verdict: str
    seconds: float
    problems: list[str] = field(default_factory=list)
    family: str = ""

    def line(self) -> str:
        text = (
            f"{self.verdict:<8} {self.level:<10} {self.point:<42} {self.batch:<11} {self.signal:<22} {self.source:<6} "
            f"{self.engine:<9} {self.table:<31} {self.seconds:5.1f} s"
        )
        return text + "".join(f"\n           {problem}" for problem in self.problems)


class Report:
    """Prints and keeps results as they come."""

    def __init__(self, seed: int, path: Path) -> None:
        self.results: list[Result] = []
        self._started = time.monotonic()
        self._file = path.open("w", encoding="utf-8")
        self._write({"seed": seed, "list": fault_list.LIST.name})
        print(f"seed {seed}; results go to {path}")

    def add(self, result: Result) -> None:
        self.results.append(result)
        self._write(asdict(result))
        print(result.line(), flush=True)

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def summary(self) -> int:
        """Print counts and the verdict of the run; its exit code."""
        counts = Counter((r.level, r.verdict) for r in self.results)
        print()
        for (level, verdict), count in sorted(counts.items()):
            print(f"{level:<10} {verdict:<8} {count:>5}")
        failed = sum(r.verdict == "failed" for r in self.results)
        skipped = sorted({r.level for r in self.results if r.verdict == "skipped"})
        seconds = f"{time.monotonic() - self._started:.0f} s; "
        if skipped:
            print(f"{seconds}{failed} failed; NOT RUN on this system: {', '.join(skipped)} (see above)")
        else:
            print(f"{seconds}{failed} failed")
        return FAILED if failed else INCOMPLETE if skipped else 0


def result_of(case: Case, verdict: Verdict, level: str = "in process", passed: bool | None = None) -> Result:
    """The line of an in-process case."""
    first = case.kills[0]
    signal = " + ".join(dict.fromkeys(k.signal for k in case.kills))
    if first.then != "retry":
        signal += f", {first.then}"
    points = [k.point if k.others == "in_order" else f"{k.point} ({k.others})" for k in case.kills]
    tables = list(dict.fromkeys(k.table for k in case.kills if k.table))
    passed = not verdict.problems if passed is None else passed
    return Result(
        level=level,
        point=" then ".join(points),
        batch=first.op if first.batch in (None, -1) else f"batch {first.batch}",
        signal=signal,
        source="files",
        engine="delta-rs",
        table=" then ".join(tables) or "-",
        verdict="passed" if passed else "failed",
        seconds=round(verdict.seconds, 2),
        problems=verdict.problems,
        family=case.family,
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a selection, in minutes")
    parser.add_argument("--seed", type=int, default=fault_list.declared()["seed"], metavar="N")
    parser.add_argument(
        "--level",
        action="append",
        choices=("in-process", "control", "delivery", "disk", "real"),
        help="only these parts; may be given several times",
    )
    parser.add_argument(
        "--only", metavar="TEXT", help="only in-process cases whose description has TEXT in it"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2, metavar="N")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    args = parser.parse_args(argv)
    levels = args.level or ("in-process", "control", "delivery", "disk", "real")
    report = Report(args.seed, args.results)
    everything = fault_list.in_process(args.seed)
    with tempfile.TemporaryDirectory(prefix="stitchlake-faults-") as scratch:
        folder = Path(scratch)
        if "in-process" in levels:
            chosen = fault_list.selection(everything, args.seed) if args.quick else everything
            chosen = [c for c in chosen if not args.only or args.only in str(c)]
            for case, verdict in run_cases(chosen, args.workers, folder):
                report.add(result_of(case, verdict))
            for waits in fault_list.declared()["waiting"]:
                report.add(
                    Result(
                        "in process",
                        waits["point"],
                        "-",
                        "-",
                        "-",
                        "-",
                        "-",
                        "waiting",
                        0.0,
                        [waits["reason"]],
                    )
                )
        if "control" in levels:
            _control(everything, args, folder, report)
        if "delivery" in levels:
            for declared in fault_list.declared()["delivery"][: 2 if args.quick else None]:
                delivery = Delivery(**declared)
                for draw in range(delivery.draws):
                    place = Path(tempfile.mkdtemp(dir=folder))
                    verdict = run_delivery(delivery, place / "lakes", args.seed + draw)
                    what = "passed" if not verdict.problems else "failed"
                    report.add(
                        Result(
                            "delivery", str(delivery), f"draw {draw}", "-", "files", "delta-rs", "-", what,
                            round(verdict.seconds, 2), verdict.problems,
                        )
                    )  # fmt: skip
        if "disk" in levels:
            _disk(args, folder, report)
        if "real" in levels:
            _real(args, folder, report)
    return report.summary()


def _control(everything: list[Case], args: argparse.Namespace, folder: Path, report: Report) -> None:
    """Without transaction ids: failing is right between the tables, and wrong elsewhere."""
    chosen = cases_of_control(everything)
    if args.quick:
        chosen = chosen[::3]
    failing = []
    for case, verdict in run_cases(chosen, args.workers, folder, is_control=True):
        has_failed = bool(verdict.problems)
        failing += [case] * has_failed
        seen = Verdict([], verdict.seconds)
        if has_failed != must_fail(case):
            seen = Verdict(
                [
                    "the suite did not see it" if must_fail(case) else "failed where it need not",
                    *verdict.problems,
                ],
                verdict.seconds,
            )
        report.add(result_of(case, seen, "control", has_failed == must_fail(case)))
    print(f"\ncontrol: with transaction ids switched off, {len(failing)} of {len(chosen)} cases failed:")
    for case in sorted(failing, key=everything.index):
        print(f"  {case.kills[0]}")
    print()


def _disk(args: argparse.Namespace, folder: Path, report: Report) -> None:
    """Every table on a disk that is full, and on one that is read-only."""
    tables = fault_list.declared()["tables"]["written"]
    if not disk.is_allowed():
        reason = (
            "this system lets nobody mount in a namespace of his own; the same errors are injected in process"
        )
        report.add(
            Result("disk", "append.before", "-", "-", "-", "-", "every table", "skipped", 0.0, [reason])
        )
        return
    command = [*disk.NAMESPACE, sys.executable, "-m", "tests.faults.disk", str(folder / "disk")]
    # delta-rs tells of every disk that was full; of interest where the child itself has failed.
    said = folder / "disk.err"
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            [*command, *(tables[::5] if args.quick else tables)], stdout=subprocess.PIPE, stderr=errors
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            row = json.loads(line)
            what = "failed" if row["problems"] else "passed"
            report.add(
                Result(
                    "disk", "append.before", "batch 1", row["signal"], "files", "delta-rs", row["table"], what,
                    round(row["seconds"], 2), row["problems"],
                )
            )  # fmt: skip
    if child.returncode:
        problem = "\n".join(["the child has failed", *said.read_text(errors="replace").splitlines()[-20:]])
        report.add(Result("disk", "-", "-", "-", "-", "-", "-", "failed", 0.0, [problem]))


def _real(args: argparse.Namespace, folder: Path, report: Report) -> None:
    """Processes that are really killed, chain by chain."""
    chains = [c for c in real.chains(fault_list.declared()["real"]) if c.quick == args.quick]
    chains = [c for c in chains if not args.only or args.only in c.name]
    broker = real.Broker(folder / "broker") if any(c.source == "kafka" for c in chains) else None
    try:
        for number, chain in enumerate(chains):
            place = folder / f"chain-{number}"
            try:
                for killed in real.run_chain(chain, place, broker):
                    report.add(_real_result(chain, killed))
            except Exception as e:
                report.add(
                    Result(
                        "real", chain.name, "-", "-", chain.source, chain.engine, "-", "failed", 0.0, [str(e)]
                    )
                )
            shutil.rmtree(place, ignore_errors=True)
    finally:
        if broker is not None:
            broker.stop()


def _real_result(chain: real.Chain, killed: real.Killed) -> Result:
    kill = killed.kill
    batch = chain.command if kill.batch is None else "compaction" if kill.batch < 0 else f"batch {kill.batch}"
    return Result(
        level="real",
        point=kill.point,
        batch=batch,
        signal=kill.signal,
        source=chain.source,
        engine=chain.engine.replace("_", "-"),
        table=kill.table or "-",
        verdict="failed" if killed.problems else "passed",
        seconds=round(killed.seconds, 2),
        problems=killed.problems,
        family=chain.name,
    )


if __name__ == "__main__":
    sys.exit(main())
