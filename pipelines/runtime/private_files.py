"""Files are private: folders 0700, files 0600, whoever writes them: this process, delta-rs, Spark's JVM, its workers.

STITCHLAKE_UMASK=027 lets the folders' group read; docs/private-files.md says how. A hashing key is its owner's alone,
whatever the mask is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from conf.settings import SettingsError

VARIABLE = "STITCHLAKE_UMASK"
PRIVATE = "077"
# The JVM gives every file its mode by itself, by this mask and not by the process's.
HADOOP_SETTING = "spark.hadoop.fs.permissions.umask-mode"


def mask(environ: Mapping[str, str] = os.environ) -> str:
    """The permissions that new files do not get, as three octal digits. SettingsError when the variable is none."""
    mask = environ.get(VARIABLE, PRIVATE)
    if not re.fullmatch(r"0?0[0-7][0-7]", mask):
        raise SettingsError(
            f"{VARIABLE}: must be three octal digits from 000 to 077, such as 027 for folders that a group may read; "
            "unset it, and files are their owner's alone"
        )
    return mask[-3:]


def keep_files_private() -> None:
    """Let this process, and those that it starts, make files of that mode. At the start of every command and job."""
    os.umask(int(mask(), 8))
