"""The Kafka client's settings: what a user puts under `kafka:`, with secrets read from the environment or files.

Values go to Spark as options of one read and to the client that looks at a topic, and nowhere else: no Spark setting,
no table, no log line has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from conf.settings import Settings, SettingsError

# The default: records of aborted transactions are not read.
COMMITTED_ONLY = {"isolation.level": "read_committed"}
_REFERENCE = re.compile(r"\$\{([^}]*)\}")


def client_settings(settings: Settings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Kafka's own keys with their values, `${NAME}` and `${file:PATH}` replaced.

    SettingsError when a variable or file is not there; it names the key and the place, never a value.
    """
    environ = os.environ if environ is None else environ
    return {key: _resolved(key, value, environ) for key, value in settings.kafka.items()}


def _resolved(key: str, value: str, environ: Mapping[str, str]) -> str:
    def found(reference: re.Match[str]) -> str:
        name = reference[1]
        if name.startswith("file:"):
            path = Path(name.removeprefix("file:")).expanduser()
            try:
                return path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError):
                raise SettingsError(
                    f"kafka: {key}: the file {path} cannot be read; put the value there, or correct the path"
                ) from None
        if not re.fullmatch(r"[A-Za-z_]\w*", name):
            raise SettingsError(f"kafka: {key}: write a reference as ${{NAME}} or ${{file:PATH}}")
        if name not in environ:
            raise SettingsError(
                f"kafka: {key}: the environment variable {name} is not set; set it, or write ${{file:PATH}}"
            )
        return environ[name]

    return _REFERENCE.sub(found, value)
