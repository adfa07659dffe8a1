"""Several cases at a time: worker processes, each with a clean run of its own."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from pathlib import Path

from tests.faults.cases import Case
from tests.faults.control import without_transaction_ids
from tests.faults.in_process import Clean, Verdict, clean_run, run_case

_clean: Clean | None = None  # this worker's


def run_cases(
    cases: Iterable[Case], workers: int, folder: Path, *, is_control: bool = False
) -> Iterator[tuple[Case, Verdict]]:
    """Every case with its verdict, as they come; with `is_control` without transaction ids."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(folder,)) as pool:
        running = {pool.submit(_run, case, is_control): case for case in cases}
        for done in as_completed(running):
            yield running[done], done.result()


def _start(folder: Path) -> None:
    global _clean
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what cases print on their way is not the suite's
    _clean = clean_run(folder / f"clean-{os.getpid()}")


def _run(case: Case, is_control: bool) -> Verdict:
    assert _clean is not None
    folder = Path(tempfile.mkdtemp(dir=_clean.folder))
    try:
        with without_transaction_ids() if is_control else nullcontext():
            return run_case(
                _clean, case.kills, folder / "case", is_renumbered=case.is_renumbered, ops=case.until
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
