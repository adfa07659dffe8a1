"""Settings of a run. Declared here with defaults; a YAML file per environment overrides them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from conf.errors import UserMistake

ENVIRONMENT_FOLDER = files("conf") / "environments"  # not a path: the package may be a zipped wheel
# Kafka client settings that are refused: the source names the topic, and the offsets of record say where to begin.
NOT_FOR_KAFKA = (
    "bootstrap.servers", "auto.offset.reset", "enable.auto.commit", "key.deserializer", "value.deserializer",
    "interceptor.classes",
)  # fmt: skip
LOG_DAYS = 30  # Delta's own clean-up of a log, where somebody calls it (table_spec.py)
CHOICES = {
    "writer": ("auto", "spark", "delta_rs"),
    "engine": ("auto", "graphframes", "driver"),
    "lookup": ("auto", "driver", "tables"),
}

_COUNT, _SECONDS = 10**15, 10 * 365 * 86_400  # beyond every use
# Every number: the smallest and the largest that works.
RANGES: dict[str, tuple[float, float]] = {
    "spark_writer_from_rows": (0, _COUNT),
    "lookup_tables_from_rows": (0, _COUNT),
    "max_files_per_trigger": (1, 2**31 - 1),
    "parse_ahead_bytes": (0, _COUNT),
    "trigger_seconds": (0, 86_400),
    "compact_every_seconds": (0, 1e12),
    "compact_from_hot_rows": (0, _COUNT),
    "upkeep_every_hours": (0, 24 * 365),
    "upkeep_pause_seconds": (0, 86_400),
    "history_batches": (1, _COUNT),  # the last published batch always stays
    "max_record_bytes": (1, 2**31 - 1),
    "max_tenants": (1, _COUNT),
    "max_batch_pairs": (1, _COUNT),  # one record is always taken
    "max_batch_bytes": (1, _COUNT),
    "write_threads": (1, 256),
    "swap_up_to_events": (0, _COUNT),
    "swap_up_to_seconds": (0, _SECONDS),
    "max_offsets_per_trigger": (1, _COUNT),
    "kafka_wait_seconds": (0.1, 3_600),
}
# Settings of earlier versions that are read and not used, and what decides now.
RETIRED = {
    "graphframes_from_edges": "engine: auto takes GraphFrames for a graph that does not fit into memory"
}
_MEMORY = re.compile(r"[1-9]\d*[kmgt]b?", re.IGNORECASE)


class SettingsError(UserMistake):
    """A settings file that cannot be used; the message says file, key, problem and way out."""


@dataclass(frozen=True)
class Settings:
    """Every setting with its unit and its laptop default."""

    master: str = "local[*]"
    driver_memory: str = "4g"
    writer: str = "auto"  # who commits a batch's rows: delta-rs while they are few, Spark when they are many
    spark_writer_from_rows: int = 2_000_000
    engine: str = "auto"  # who solves a batch's graph: the driver where it fits into memory, else GraphFrames
    lookup: str = "auto"  # who knows what was published: the driver's memory, or the tables by Spark joins
    lookup_tables_from_rows: int = (
        30_000_000  # events, nodes, edges and sessions: 40 to 60 bytes of memory each
    )
    max_files_per_trigger: int = 8
    # So much of the next batch's files is parsed while a batch is published, if the stream is behind. 0: nothing is.
    parse_ahead_bytes: int = 256 * 2**20
    trigger_seconds: float = 0.2
    # gold.profiles the table is about this old at most; a compaction is followed by four times its own length of rest.
    compact_every_seconds: float = 60.0
    compact_from_hot_rows: int = 1_500_000  # a backlog is folded in every minute, and not every other batch
    upkeep_every_hours: float = 1.0  # a running stream's own upkeep; 0: never, somebody else sees to it
    upkeep_pause_seconds: float = (
        2.0  # no step of upkeep begins after a pause between batches has lasted that long
    )
    history_days: float = 7.0  # published batches younger than that can be read as they were …
    history_batches: int = 50_000  # … unless there are more of them; a batch keeps about 24 files on disk
    max_record_bytes: int = 16 * 2**20
    max_tenants: int = 100_000  # of one lake; events of a further tenant are quarantined
    # A stream's batch with more than that is published in portions, each a batch of its own: pairs of identifiers that
    # its records show, at 150 bytes of memory for each that differs, and bytes of its records as they are parsed.
    max_batch_pairs: int = 8_000_000
    max_batch_bytes: int = 2**30
    write_threads: int = 4
    swap_up_to_events: int = 50_000  # a rebuild may derive that many while a running stream waits for it
    swap_up_to_seconds: float = 300.0  # and comparing with the published tables may keep it waiting that long
    max_offsets_per_trigger: int = 250_000  # records of one batch, over all topics
    kafka_fail_on_data_loss: bool = True  # false: go on where a topic begins when it has lost unread records
    kafka_group_id_prefix: str = "stitchlake"  # of the consumer groups' names, for a broker's access rules
    kafka_wait_seconds: float = 10.0  # how long a broker may take to answer when a stream starts
    # Kafka's own client settings, such as security.protocol; values may be ${NAME} or ${file:PATH}. Never shown.
    kafka: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise SettingsError(f"{key}: must be one of {', '.join(allowed)}")
        if not 0 <= self.history_days < LOG_DAYS:
            raise SettingsError(
                f"history_days: must be from 0 to less than {LOG_DAYS}, the age of Delta's log"
            )
        for key, (low, high) in RANGES.items():
            if not low <= getattr(self, key) <= high:  # nor is .nan
                raise SettingsError(f"{key}: must be from {low:,.16g} to {high:,.16g}")
        if not _MEMORY.fullmatch(self.driver_memory):
            raise SettingsError("driver_memory: must be a size, such as 4g or 900m")
        if not self.master.strip():
            raise SettingsError("master: must be Spark's, such as local[*]; without the line it is that")


def load_settings(environment: str = "laptop") -> Settings:
    """The settings of a named environment in conf/environments, or of a YAML file given by its path."""
    path = Path(environment)
    file = path if path.suffix in (".yaml", ".yml") else ENVIRONMENT_FOLDER / f"{environment}.yaml"
    known = ", ".join(
        sorted(f.name.removesuffix(".yaml") for f in ENVIRONMENT_FOLDER.iterdir() if f.name.endswith(".yaml"))
    )
    try:
        raw: Any = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise SettingsError(
            f"environment {environment!r} does not exist; known are {known}, or give a YAML file"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        raise SettingsError(
            f"settings file {file} is not readable YAML; check its indentation and quotes"
        ) from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{file}: must be a mapping of settings")
    for key in RETIRED.keys() & raw.keys():
        warnings.warn(
            f"{file}: {key}: has no effect any more and can be removed; {RETIRED[key]}", stacklevel=2
        )
    raw = {key: value for key, value in raw.items() if key not in RETIRED}
    types = {f.name: type(getattr(Settings(), f.name)) for f in fields(Settings)}
    for key, value in raw.items():
        if key not in types:
            raise SettingsError(f"{file}: {key}: is not a setting; known are {', '.join(types)}")
        if key == "kafka":
            raw = raw | {key: _kafka(file, value)}
            continue
        if types[key] is bool:
            if not isinstance(value, bool):
                raise SettingsError(f"{file}: {key}: must be true or false")
            continue
        wanted = (int, float) if types[key] is float else types[key]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise SettingsError(f"{file}: {key}: must be a {types[key].__name__}")
    try:
        return replace(Settings(), **raw)
    except SettingsError as e:
        raise SettingsError(f"{file}: {e}") from None


def _kafka(file: Traversable, raw: Any) -> dict[str, str]:
    """Kafka's client settings as text. Messages name keys; a value may be a password."""
    if not isinstance(raw, dict):
        raise SettingsError(f"{file}: kafka: must be a mapping of Kafka's client settings")
    settings = {}
    for key, value in raw.items():
        if not isinstance(key, str) or not isinstance(value, str | int | float):
            raise SettingsError(f"{file}: kafka: {key}: must be one text, number, true or false")
        key = key.removeprefix("kafka.")
        if key in NOT_FOR_KAFKA:
            raise SettingsError(
                f"{file}: kafka: {key}: is decided by the source and the offsets of record; remove it"
            )
        settings[key] = str(value).lower() if isinstance(value, bool) else str(value)
    return settings
