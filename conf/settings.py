"""Settings of a run: how, not what. Declared here, overridden per environment by a small YAML file."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

ENVIRONMENT_FOLDER = Path(__file__).parent / "environments"
CHOICES = {
    "writer": ("auto", "spark", "delta_rs"),
    "engine": ("auto", "graphframes", "driver"),
    "lookup": ("auto", "driver", "tables"),
}


class SettingsError(ValueError):
    """A settings file that cannot be used; the message says file, key, problem and way out."""


@dataclass(frozen=True)
class Settings:
    """Every setting with its unit and its laptop default."""

    master: str = "local[*]"
    driver_memory: str = "4g"
    writer: str = "auto"  # who commits a batch's rows: delta-rs while they are few, Spark when they are many
    spark_writer_from_rows: int = 2_000_000
    engine: str = "auto"  # who solves the contracted graph
    graphframes_from_edges: int = 1_000_000
    lookup: str = "auto"  # who knows what was published: the driver's memory, or the tables by Spark joins
    lookup_tables_from_rows: int = (
        20_000_000  # events, nodes, edges and sessions: about 140 bytes of memory each
    )
    max_files_per_trigger: int = 8
    trigger_seconds: float = 0.2
    compact_every_seconds: float = 60.0  # gold.profiles the table is at most this old
    compact_from_hot_rows: int = 500_000
    compact_files_every_batches: int = 100
    max_record_bytes: int = 16 * 2**20
    write_threads: int = 4

    def __post_init__(self) -> None:
        for key, allowed in CHOICES.items():
            if getattr(self, key) not in allowed:
                raise SettingsError(f"{key}: must be one of {', '.join(allowed)}")


def load_settings(environment: str = "laptop") -> Settings:
    """The settings of a named environment in conf/environments, or of a YAML file given by its path."""
    path = Path(environment)
    file = path if path.suffix in (".yaml", ".yml") else ENVIRONMENT_FOLDER / f"{environment}.yaml"
    known = ", ".join(sorted(f.stem for f in ENVIRONMENT_FOLDER.glob("*.yaml")))
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
    types = {f.name: type(getattr(Settings(), f.name)) for f in fields(Settings)}
    for key, value in raw.items():
        if key not in types:
            raise SettingsError(f"{file}: {key}: is not a setting; known are {', '.join(types)}")
        wanted = (int, float) if types[key] is float else types[key]
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise SettingsError(f"{file}: {key}: must be a {types[key].__name__}")
    try:
        return replace(Settings(), **raw)
    except SettingsError as e:
        raise SettingsError(f"{file}: {e}") from None
