"""Data Docs: what was expected and what was found, as pages that open without a network and tell nobody."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from quality.suites import Judged, suite_of, suite_result

MARK = ".stitchlake-quality"
_ELSEWHERE = r"https?://[^\"'> ]*"
# Style sheets, scripts, pictures and notices that Great Expectations' pages fetch from other people's servers.
_FETCHED = (
    rf"<script[^>]*\bsrc=[\"']{_ELSEWHERE}[\"'][^>]*>.*?</script>",
    rf"<link\b[^>]*\bhref=[\"']{_ELSEWHERE}[\"'][^>]*>",
    rf"<img\b[^>]*\bsrc=[\"']{_ELSEWHERE}[\"'][^>]*>",
    r"<footer\b.*?</footer>",
)
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 0 1rem 3rem; }
table { border-collapse: collapse; width: 100%; } th, td { border: 1px solid #ccc; padding: .3rem .6rem;
  text-align: left; vertical-align: top; } nav ol, nav ul, ul { padding-left: 1.2rem; }
.badge { background: #eee; border-radius: .3rem; padding: 0 .3rem; } .text-success { color: #17803d; }
.text-danger { color: #b3261e; } .alert { border-left: 4px solid #b3261e; padding-left: .6rem; }
.fa-check-circle::before { content: "✓"; } .fa-times::before, .fa-times-circle::before { content: "✗"; }
.modal, .collapse:not(.show), .popover { display: none; } .nav { list-style: none; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6; } .badge { background: #333; } }
</style>"""


class DocsFolderTaken(ValueError):
    """A folder with something else in it, which is not overwritten."""


def write_data_docs(
    folder: Path, judged: Mapping[str, Sequence[Judged]], run_name: str, checked_at: datetime
) -> Path:
    """Write the pages of one run, in place of those of the run before; the index page. DocsFolderTaken."""
    folder = folder.absolute()
    require_ours(folder)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _build(fresh, judged, run_name, checked_at)
    for page in fresh.rglob("*.html"):
        page.write_text(_at_home(page.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.rmtree(fresh / "static", ignore_errors=True)
    (fresh / MARK).touch()
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    return folder / "index.html"


def require_ours(folder: Path) -> None:
    """DocsFolderTaken unless the folder is missing, empty or holds the pages of an earlier run."""
    if folder.exists() and not (
        folder.is_dir() and ((folder / MARK).exists() or not any(folder.iterdir()))
    ):
        raise DocsFolderTaken(
            f"{folder} has something else in it; give --docs an empty folder, or one of an earlier run"
        )


def _build(
    folder: Path, judged: Mapping[str, Sequence[Judged]], run_name: str, checked_at: datetime
) -> None:
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(False)
    run_id = RunIdentifier(run_name=run_name, run_time=checked_at)
    meta = {"run_id": run_id, "active_batch_definition": {}, "batch_spec": {}, "batch_markers": {}}
    for name, results in judged.items():
        context.suites.add(suite_of(name, [one.measured.rule for one in results]))
        key = ValidationResultIdentifier(
            expectation_suite_identifier=ExpectationSuiteIdentifier(name),
            run_id=run_id,
            batch_identifier="published",
        )
        context.validation_results_store.set(key, suite_result(name, results, meta))
    context.add_data_docs_site(
        site_name="quality",
        site_config={
            "class_name": "SiteBuilder",
            "show_how_to_buttons": False,
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder),
            },
        },
    )
    context.build_data_docs(site_names=["quality"])


def _at_home(page: str) -> str:
    for pattern in _FETCHED:
        page = re.sub(pattern, "", page, flags=re.DOTALL | re.IGNORECASE)
    return page.replace("</head>", f"{_STYLE}\n</head>", 1)
