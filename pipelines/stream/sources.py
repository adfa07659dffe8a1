"""Where records come from: landing folders and Kafka topics, read as one stream.

A file arrives by rename. Names that start with `.` or `_` (of the file or of a folder above it) are still
in flight.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.stream.kafka.topics import Topic
from pipelines.stream.source import Source, require_different
from transforms.ingest.control import CONTROL
from transforms.ingest.framing.frames import FORMATS, format_of
from transforms.ingest.mapping.folder_columns import columns_of

MAX_FILE_BYTES = 2**31 - 1  # what Spark can hold of one file
_FILE_SCHEMA = "path string, modificationTime timestamp, length long, content binary"
_IN_FLIGHT = r"(^|/)[._][^/]*|\._COPYING_$"
_IN_FLIGHT_SECONDS = 60.0
_FORBIDDEN = "folders that may not be listed"
_SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]*:(//)?(?=/)"
# Spark's default is 7 days behind the newest file, and what is older is skipped without a word.
_NEVER_TOO_OLD = "36500d"

# Without Hadoop's checksum files: looking for one fails on names with a colon, like 2024-05-01T10:00.jsonl,
# and would stop the stream. The setting is for this read alone, hence the cache must not hand out another's.
_LOCAL_FILES = {
    "fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "fs.file.impl.disable.cache": "true",
}


def read_stream(
    spark: SparkSession,
    sources: Sequence[Source],
    max_files_per_trigger: int,
    topics: Mapping[str, Topic] | None = None,
) -> DataFrame:
    """One row per landed file: source, mapping, feed, kind, path inside the folder, content, transport_at.

    One row per record of `topics` (by source name), with offset, record_key and headers beside; null for files.
    """
    require_different(sources)
    # Spark numbers the sources of a checkpoint: they must not change places when a user names them in another order.
    streams = [
        (topics or {})[source.name].read(spark)
        if source.kind == "kafka"
        else _read_folder(spark, source, max_files_per_trigger)
        for source in sorted(sources, key=lambda s: s.name)
    ]
    return reduce(lambda a, b: a.unionByName(b, allowMissingColumns=True), streams)


def left_out(source: Source) -> dict[str, list[str]]:
    """Names in the source's folder that will not be read, by the reason."""
    found: dict[str, list[str]] = {}
    if source.kind != "file":
        return found
    for name, path in _files_in(
        source, lambda error: found.setdefault(_FORBIDDEN, []).append(_of(source, error))
    ):
        if why := _why_not(name, path):
            found.setdefault(why, []).append(name)
    return {why: sorted(names) for why, names in sorted(found.items())}


def _why_not(name: str, path: Path) -> str | None:
    extension = format_of(name)[0]
    if _is_in_flight(name):
        # What other programs leave beside files (_SUCCESS, .DS_Store) is nobody's data.
        is_old = extension is not None and _age_seconds(path) > _IN_FLIGHT_SECONDS
        return "names that begin with . or _ are still in flight, and these do not arrive" if is_old else None
    if extension is None:
        return f"no extension that is known ({', '.join(f'.{e}' for e in FORMATS)}, or .gz of it)"
    try:
        return "larger than 2 GiB" if path.stat().st_size > MAX_FILE_BYTES else None
    except OSError:  # renamed or gone meanwhile
        return None


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


def columns_in_folders(source: Source) -> dict[str, str]:
    """Columns that stand in the names of a source's folders, and a folder of each."""
    found: dict[str, str] = {}
    for where, folders, _ in os.walk(os.path.abspath(source.location)):
        for folder in sorted(folders):
            if "=" in folder and not _is_in_flight(name := name_inside(source, Path(where, folder))):
                found |= {column: name for column in columns_of(f"{folder}/") if column not in found}
    return found


def landed_files(source: Source) -> Iterator[tuple[str, Path]]:
    """Files in a source's folder and their names inside it, of any extension, without those in flight."""
    return ((name, path) for name, path in _files_in(source) if not _is_in_flight(name))


def _files_in(
    source: Source, on_error: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, Path]]:
    for where, _, files in os.walk(os.path.abspath(source.location), onerror=on_error):
        for file in files:
            path = Path(where, file)
            yield name_inside(source, path), path


def _is_in_flight(name: str) -> bool:
    return re.search(_IN_FLIGHT, name) is not None


def _of(source: Source, error: OSError) -> str:
    return os.path.relpath(str(error.filename), source.location)


def name_inside(source: Source, path: Path) -> str:
    """What a file of a landing folder is called: its path inside the folder."""
    return path.relative_to(os.path.abspath(source.location)).as_posix()


def read_files(spark: SparkSession, source: Source, files: Sequence[Path]) -> DataFrame:
    """The rows that `read_stream` has for these files of a landing folder."""
    return _landed(
        spark.read.format("binaryFile")
        .schema(_FILE_SCHEMA)
        .option("pathGlobFilter", _glob())
        .options(**_LOCAL_FILES)
        .load([_escaped(str(file)) for file in files]),
        source,
    )


def _read_folder(spark: SparkSession, source: Source, max_files_per_trigger: int) -> DataFrame:
    return _landed(
        spark.readStream.format("binaryFile")
        .schema(_FILE_SCHEMA)
        .option("pathGlobFilter", _glob())
        .option("recursiveFileLookup", "true")
        .option("maxFilesPerTrigger", max_files_per_trigger)
        .option("maxFileAge", _NEVER_TOO_OLD)
        .options(**_LOCAL_FILES)
        .load(_escaped(os.path.abspath(source.location))),
        source,
    )


def _landed(files: DataFrame, source: Source) -> DataFrame:
    folder = os.path.abspath(source.location)
    # Spark reports file:/folder/name with nothing encoded; what follows the folder is the file's name here.
    inside = F.substring(F.regexp_replace("path", _SCHEME, ""), len(folder.rstrip("/")) + 2, 1_000_000)
    return (
        files.where(F.col("length") <= MAX_FILE_BYTES)  # pushed down: Spark refuses to open a larger one
        .withColumn("path", inside)
        .where(~F.col("path").rlike(_IN_FLIGHT))  # Spark lets names like _a=b pass
        .select(
            F.lit(source.name).alias("source"),
            F.lit(source.mapping).alias("mapping"),
            F.lit(CONTROL if source.mapping == CONTROL else "events").alias("feed"),
            F.lit(source.kind).alias("kind"),
            "path",
            "content",
            F.col("modificationTime").alias("transport_at"),
        )
    )


def _glob() -> str:
    """The extensions that are read, in upper or lower case, with or without compression."""
    endings = [f"{e}{gz}" for e in FORMATS for gz in ("", ".gz")]
    either = ("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in ending) for ending in endings)
    return f"*.{{{','.join(either)}}}"


def _escaped(folder: str) -> str:
    """The folder's path as a pattern that means just this folder; brackets in it would match nothing
    otherwise."""
    return re.sub(r"([\\{}\[\]*?])", r"\\\1", folder)
