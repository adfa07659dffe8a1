"""temporary"""
from __future__ import annotations
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from pyspark.sql import functions as F

class SourceError(ValueError): ...

@dataclass(frozen=True)
class Source:
    mapping: str
    location: str
    kind: str
    name: str

def parse_source(text):
    m, _, loc = text.partition(":")
    return Source(m, loc, "file", f"{m}:{Path(loc).absolute()}")

def ignored_names(source): return []

def read_stream(spark, sources, max_files):
    fs = []
    for s in sources:
        root = "file:" + str(Path(s.location).absolute()) + "/"
        df = (spark.readStream.format("binaryFile").schema("path string, modificationTime timestamp, length long, content binary").option("pathGlobFilter", "*.{jsonl,json,csv,parquet,ndjson}").option("maxFilesPerTrigger", max_files).load(s.location))
        fs.append(df.select(F.lit(s.name).alias("source"), F.lit(s.mapping).alias("mapping"), F.lit("events").alias("feed"), F.lit("file").alias("kind"),
            F.element_at(F.split("path", "/"), -1).alias("path"), "content", F.col("modificationTime").alias("transport_at")))
    return reduce(lambda a, b: a.unionByName(b), fs)
