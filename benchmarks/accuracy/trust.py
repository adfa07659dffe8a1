"""Can its people be trusted? 5 % of the devices shared with a stranger, 2 % of the events with junk ids: precision and
recall against the truth, beside simpler ways, and how many identifiers change hands per batch.

`python -m benchmarks.accuracy.trust` prints the table and adds to benchmarks/results/latest.jsonl.
Exit code 1 below a target.
Recall is of what the evidence can show: pairs of one person's identifiers that are connected by events over
identifiers that are hers alone. What only a shared device connects, nobody can know.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.accuracy.pairs import (
    IDENTIFIER_KEY,
    Assignment,
    Truth,
    numbered,
    read_truth,
    score,
    with_owners,
)
from benchmarks.accuracy.rough_data import roughen
from benchmarks.accuracy.scoring import measure
from benchmarks.accuracy.simple_methods import BASELINES
from benchmarks.accuracy.truth import EVENT_OWNERS, EVENTS, IDENTIFIERS, OWNERS
from benchmarks.report.record import record
from conf.policy import load_policy
from conf.settings import load_settings
from pipelines.apps.results import connect
from pipelines.apps.run_stream import run_stream
from pipelines.generator import generate
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.stream.source import Source
from transforms.identity.components import driver_components
from transforms.identity.evidence import pairs_of

LEAST_PRECISION, LEAST_RECALL = 0.999, 0.99
_CHURN = """
SELECT b.batch_id, b.received_count,
       count(*) FILTER (WHERE l.cause = 'new') AS new_count,
       count(*) FILTER (WHERE l.cause IN ('merge', 'split', 'shared', 'moved', 'decision')) AS moved_count
FROM ops.batches AS b LEFT JOIN silver.identity_log AS l ON l.batch_id = b.batch_id AND l.node_id > 0
WHERE b.kind = 'batch' GROUP BY ALL ORDER BY 1
"""


def visible_labels(truth: Truth, events: pa.Table, identifiers: pa.Table) -> tuple[pa.Table, np.ndarray]:
    """(identifiers of one true person each that some valid event shows, label per row): equal labels are what the
    evidence can show to be one: same true person, and connected over identifiers that are hers alone."""
    shown = identifiers.select(["node_id", *IDENTIFIER_KEY])
    own = truth.owned_identifiers().drop_columns("persons").join(shown, IDENTIFIER_KEY, join_type="inner")
    own = own.combine_chunks()
    node, person = own["node_id"].to_numpy(), truth.numbers_of(own["person"])
    order = np.argsort(node)
    node, person = node[order], person[order]
    lists = events["node_ids"].combine_chunks()
    _, left, right = pairs_of(lists)
    ends = [np.minimum(np.searchsorted(node, e), len(node) - 1) for e in (left, right)]
    known = (node[ends[0]] == left) & (node[ends[1]] == right)
    a, b = ends[0][known], ends[1][known]
    same = person[a] == person[b]
    return own.take(pa.array(order)), driver_components(len(node), a[same], b[same])


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.trust", description=__doc__)
    p.add_argument("--persons", type=int, default=8_000)
    p.add_argument("--events", type=int, default=100_000)
    p.add_argument("--seed", type=int, default=11)
    p.add_argument("--shared-devices", type=float, default=0.05)
    p.add_argument("--junk", type=float, default=0.02)
    args = p.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="stitchlake-trust-") as scratch:
        folder = Path(scratch)
        generate(args.persons, args.events, args.seed, folder / "plain", truth=folder / "plain.jsonl")
        done = roughen(
            folder / "plain",
            folder / "plain.jsonl",
            folder / "events",
            folder / "truth.jsonl",
            args.seed,
            args.shared_devices,
            args.junk,
        )
        print(", ".join(f"{count:,} {what.replace('_', ' ')}" for what, count in done.items()))
        settings = replace(load_settings(), max_files_per_trigger=1)
        spark = build_session("stitchlake trust", settings.master, driver_memory=settings.driver_memory)
        source = Source("native", str(folder / "events"), "file", "native:trust")
        run_stream(spark, folder / "lake", [source], load_policy(), settings, once=True)
        truth = read_truth(folder / "truth.jsonl")
        with connect(folder / "lake") as db:
            events, identifiers = (db.sql(q).to_arrow_table() for q in (EVENTS, IDENTIFIERS))
            ours = Assignment(
                "stitchlake", db.sql(OWNERS).to_arrow_table(), db.sql(EVENT_OWNERS).to_arrow_table()
            )
            churn = db.execute(_CHURN).fetchall()
    items, labels = visible_labels(truth, events, identifiers)
    results = []
    print(f"\n{'':28}  precision  recall of the visible  recall of all  B-cubed P / R")
    for one in [ours, *(baseline(events, identifiers) for baseline in BASELINES)]:
        clusters, _ = numbered(with_owners(items, one.owners, IDENTIFIER_KEY)["canonical_id"])
        found = with_owners(items, one.owners, IDENTIFIER_KEY)
        place = np.argsort(found["node_id"].to_numpy())
        visible = score(labels, clusters[place], np.ones(len(labels), bool))
        whole = measure(truth, one).identifiers.overall
        results.append((one.name, whole.pair_precision, visible.pair_recall))
        print(
            f"{one.name:28}  {whole.pair_precision:9.5f}  {visible.pair_recall:21.5f}  {whole.pair_recall:13.5f}"
            f"  {whole.bcubed_precision:.4f} / {whole.bcubed_recall:.4f}"
        )
    print("\nidentifiers that changed hands, per batch")
    for batch_id, received, new, moved in churn:
        print(
            f"  batch {batch_id:>3}  {received:>7,} records  {new:>7,} new identifiers  {moved:>6,} changed hands"
        )
    _name, precision, recall = results[0]
    baseline = {n: {"precision": p, "recall": r} for n, p, r in results[1:]}
    conditions = {**vars(args), **done}
    rows = [
        ("trust.pair_precision", precision, "ratio", LEAST_PRECISION),
        ("trust.pair_recall_of_the_visible", recall, "ratio", LEAST_RECALL),
    ]
    record(
        "trust.",
        [
            {
                "name": n,
                "value": v,
                "unit": u,
                "target": t,
                "passed": v >= t,
                "baseline": baseline,
                "conditions": conditions,
            }
            for n, v, u, t in rows
        ]
        + [
            {
                "name": "trust.changed_hands_share",
                "value": sum(c[3] for c in churn) / max(1, sum(c[2] for c in churn)),
                "unit": "ratio",
                "target": None,
                "passed": None,
                "baseline": None,
                "conditions": conditions,
            }
        ],
    )
    return 0 if precision >= LEAST_PRECISION and recall >= LEAST_RECALL else 1


if __name__ == "__main__":
    run_and_end(main)
