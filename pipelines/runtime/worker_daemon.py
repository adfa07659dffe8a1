"""What Spark starts its Python workers from, on this machine: its own daemon, with none of its archives to import from.

Spark puts pyspark as a zip and its own core jar in front of what is installed. Before every task a worker empties its
import caches, and for an archive that is to read its whole directory again, once for every package that was looked for
in it: 0.3 s for each task, several times what a batch's records take to parse. The same pyspark is installed.
"""

from __future__ import annotations

import re
import sys

SPARKS_ARCHIVES = re.compile(r"(^|[/\\])(pyspark\.zip|py4j-[^/\\]*-src\.zip|[^/\\]*\.jar)$")

sys.path[:] = [place for place in sys.path if not SPARKS_ARCHIVES.search(place)]
sys.path_importer_cache.clear()

from pyspark.daemon import manager  # noqa: E402

if __name__ == "__main__":
    manager()
