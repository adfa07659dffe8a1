"""Data Docs: expectations and results as HTML pages that load nothing from a network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

import great_expectations as gx
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context.types.resource_identifiers import (
    ExpectationSuiteIdentifier,
    ValidationResultIdentifier,
)

from quality.docs_folder import MARK, require_ours
from quality.suites import Judged, suite_of, suite_result

# What Great Expectations' pages fetch from other people's servers, and the scripts that need it.
_FETCHED = (
    r"<script\b.*?</script>",
    r"<link\b[^>]*>",
    r"<img\b[^>]*>",
    r"<footer\b.*?</footer>",
    r"url\([\"']?https?:[^)]*\)",
)
_STYLE = """<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 0 1rem 3rem; }
table { border-collapse: collapse; width: 100%; } ul, ol { padding-left: 1.2rem; }
th, td { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.badge { background: #eee; border-radius: .3rem; padding: 0 .3rem; }
.text-success, .met { color: #17803d; } .text-danger, .broken { color: #b3261e; }
.fa-check-circle::before { content: "✓"; } .fa-times::before, .fa-times-circle::before { content: "✗"; }
.modal, .popover, .btn, button, input { display: none; } .nav { list-style: none; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #e6e6e6; } .badge { background: #333; } }
</style>"""


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
    (fresh / "index.html").write_text(_index(fresh, judged, run_name, checked_at), encoding="utf-8")
    (fresh / MARK).touch()
    if folder.exists():
        shutil.rmtree(folder)
    fresh.rename(folder)
    return folder / "index.html"


def _build(folder: Path, judged: Mapping[str, Sequence[Judged]], run_name: str, checked_at: datetime) -> None:
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
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": {
                "class_name": "TupleFilesystemStoreBackend",
                "base_directory": str(folder),
            },
        },
    )
    context.build_data_docs(site_names=["quality"])


def _index(folder: Path, judged: Mapping[str, Sequence[Judged]], run_name: str, checked_at: datetime) -> str:
    """The first page. Great Expectations' own is drawn by a script that it fetches."""
    rows = []
    for name, results in judged.items():
        (page,) = folder.glob(f"validations/{name.replace('.', '/')}/**/*.html")
        broken = [one for one in results if not one.is_success]
        findings = "; ".join(f"{r.severity}: {r.says}" for r in (one.measured.rule for one in broken))
        verdict = (
            f'<span class="broken">✗ {escape(findings)}</span>' if broken else '<span class="met">✓</span>'
        )
        elements = next(
            (m.element_count for m in (one.measured for one in results) if m.rule.kind != "columns"), None
        )
        rows.append(
            f'<tr><td><a href="{quote(page.relative_to(folder).as_posix())}">{escape(name)}</a></td>'
            f"<td>{'' if elements is None else f'{elements:,}'}</td>"
            f"<td>{len(results) - len(broken)} of {len(results)}</td><td>{verdict}</td></tr>"
        )
    return (
        "<!DOCTYPE html>\n<html><head><meta charset='UTF-8'><title>Data quality</title>\n"
        f"{_STYLE}\n</head><body>\n<h1>Data quality</h1>\n"
        f"<p>{escape(run_name)}, looked at {checked_at:%Y-%m-%d %H:%M:%S} UTC</p>\n"
        "<table><tr><th>table</th><th>rows</th><th>expectations met</th><th></th></tr>\n"
        + "\n".join(rows)
        + "\n</table>\n</body></html>\n"
    )


def _at_home(page: str) -> str:
    for pattern in _FETCHED:
        page = re.sub(pattern, "", page, flags=re.DOTALL | re.IGNORECASE)
    return page.replace("</head>", f"{_STYLE}\n</head>", 1)
