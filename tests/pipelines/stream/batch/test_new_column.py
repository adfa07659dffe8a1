"""A new column of a table is one edit, in its TableSpec: nothing has to be filled in elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conf.tables import ALL
from pipelines.lake.lake import with_hot_parts

ROOT = Path(__file__).parents[4]
# In a process of its own, because declarations are read when modules are imported.
STORY = """
import json, sys
from pathlib import Path
import conf.table_spec as table_spec

added, folder = sys.argv[1] == "added", Path(sys.argv[2])
check = table_spec.TableSpec.__post_init__
def with_one_more(spec):
    if all(column.name != "added_later" for column in spec.columns):
        more = table_spec.ColumnSpec("added_later", "string", "a column that nothing fills", "provenance")
        object.__setattr__(spec, "columns", (*spec.columns, more))
    check(spec)
if added:
    table_spec.TableSpec.__post_init__ = with_one_more

from conf.tables import ALL
from pipelines.lake.lake import with_hot_parts
from tests.direct_lake import DirectLake
from tests.pipelines.stream.batch.test_failed_batch import BATCHES_OF_EVENTS, DECISION

lake = DirectLake(folder)
for batch in BATCHES_OF_EVENTS:
    lake.feed(batch)
lake.feed([DECISION], "control", "1.json")
lake.feed([{"event_id": "x"}, *BATCHES_OF_EVENTS[0]], "segment")
rows = {s.full_name: lake.lake.open(s).to_pyarrow_table().to_pylist() for s in with_hot_parts(ALL)}
before = sorted(map(str, lake.contents().items()))
lake.processor.compact()
after = sorted(map(str, lake.contents().items()))
found = {name: sorted({str(row.get("added_later", "none")) for row in some}) for name, some in rows.items()}
print(json.dumps({"found": found, "before": before, "after": after}))
"""


def told(added: str, folder: Path) -> dict:
    """What a lake has after some batches, a decision, refusals and a compaction."""
    done = subprocess.run(
        [sys.executable, "-c", STORY, added, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.thorough
def test_a_column_that_is_added_to_every_table_is_null_and_changes_nothing_else(tmp_path: Path) -> None:
    """Seen to fail where a table's rows were built without its spec."""
    plain, added = told("plain", tmp_path / "plain"), told("added", tmp_path / "added")
    names = {spec.full_name for spec in with_hot_parts(ALL)}
    written = {name for name, values in added["found"].items() if values}
    assert len(written) > len(names) / 2
    assert all(added["found"][name] == ["None"] for name in written)
    assert all(values in (["none"], []) for values in plain["found"].values())
    assert (added["before"], added["after"]) == (plain["before"], plain["after"])
