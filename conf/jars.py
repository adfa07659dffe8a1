"""The jars of a Spark session, and of a broker for development: the only place that names their coordinates.

Everything a jar needs that the pyspark wheel already brings is excluded, because two versions of one class on the
class path fail late and far from their cause.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

# Set to a coordinate (io.graphframes:graphframes-spark4_2.13:VERSION) to take GraphFrames from its own jar.
GRAPHFRAMES_VARIABLE = "STITCHLAKE_GRAPHFRAMES_JAR"

_COORDINATE = re.compile(r"[\w.-]+:[\w.-]+:[\w.-]+")


@dataclass(frozen=True)
class Jar:
    """One jar by its Maven coordinate, and why it is here."""

    coordinate: str
    why: str
    with_dependencies: bool = True

    def __post_init__(self) -> None:
        if not _COORDINATE.fullmatch(self.coordinate):
            raise ValueError(
                f"jar coordinate {self.coordinate!r}: write it as group:artifact:version, "
                "for example io.delta:delta-spark_4.0_2.13:4.4.0"
            )

    @property
    def group(self) -> str:
        """The Maven group of the coordinate."""
        return self.coordinate.split(":")[0]

    @property
    def artifact(self) -> str:
        """The Maven artifact of the coordinate."""
        return self.coordinate.split(":")[1]

    @property
    def version(self) -> str:
        """The version of the coordinate."""
        return self.coordinate.split(":")[2]


@dataclass(frozen=True)
class Exclude:
    """A group (or one artifact of it) that is not fetched although a jar asks for it."""

    group: str
    why: str
    artifact: str = "*"


@dataclass(frozen=True)
class JarSet:
    """Jars that are resolved together and share what is left out."""

    jars: tuple[Jar, ...]
    excludes: tuple[Exclude, ...]
    called: str = "Spark's jars"


DELTA = Jar("io.delta:delta-spark_4.0_2.13:4.4.0", why="Delta tables in Spark")

GRAPHFRAMES = Jar(
    "org.apache.sedona:sedona-spark-shaded-4.0_2.13:1.8.0",
    why="carries the unchanged org.graphframes classes, and can be had where GraphFrames' own jar is not published",
    with_dependencies=False,  # the rest of it is geometry that nobody here calls
)

KAFKA = Jar(
    "org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.0",
    why="Kafka as a source; 4.0.0 because the token provider of later ones is not published everywhere",
)

IN_PYSPARK = "the pyspark wheel brings its own"

SPARK_JARS = JarSet(
    jars=(DELTA, GRAPHFRAMES, KAFKA),
    excludes=(
        Exclude("org.scala-lang", IN_PYSPARK),
        Exclude("org.scala-lang.modules", IN_PYSPARK),
        Exclude("org.apache.hadoop", IN_PYSPARK),
        Exclude("org.slf4j", IN_PYSPARK),
        Exclude("org.apache.spark", IN_PYSPARK, artifact="spark-tags_2.13"),
        Exclude("org.apache.logging.log4j", IN_PYSPARK),
        Exclude("org.apache.parquet", IN_PYSPARK),
        Exclude("com.fasterxml.jackson.core", IN_PYSPARK),
        Exclude("com.fasterxml.jackson.datatype", IN_PYSPARK),
        Exclude("com.fasterxml.jackson.dataformat", IN_PYSPARK),
        Exclude("com.fasterxml.jackson.module", IN_PYSPARK),
        Exclude("org.lz4", IN_PYSPARK),
        Exclude("org.xerial.snappy", IN_PYSPARK),
        Exclude("com.github.luben", IN_PYSPARK),
        Exclude("org.roaringbitmap", IN_PYSPARK),
        Exclude("io.airlift", IN_PYSPARK),
        Exclude("commons-pool", IN_PYSPARK),
        Exclude("com.google.code.findbugs", IN_PYSPARK),
        Exclude("javax.annotation", "annotations that nothing reads at run time"),
    ),
)

# A process of its own, with a class path of its own: nothing of it meets Spark's jars.
BROKER_JARS = JarSet(
    jars=(Jar("org.apache.kafka:kafka_2.13:4.0.0", why="a Kafka broker for development and tests"),),
    excludes=(Exclude("com.google.code.findbugs", "annotations that nothing reads at run time"),),
    called="the Kafka broker's jars",
)


def spark_jars(environ: Mapping[str, str]) -> JarSet:
    """The set to start Spark with, its GraphFrames replaced if the environment names another coordinate."""
    coordinate = environ.get(GRAPHFRAMES_VARIABLE, "").strip()
    if not coordinate:
        return SPARK_JARS
    try:
        own = Jar(coordinate, why=f"GraphFrames as named by {GRAPHFRAMES_VARIABLE}")
    except ValueError as problem:
        raise ValueError(f"environment variable {GRAPHFRAMES_VARIABLE}: {problem}") from None
    return replace(SPARK_JARS, jars=tuple(own if jar is GRAPHFRAMES else jar for jar in SPARK_JARS.jars))
