"""Files that are there as a whole or not at all, whatever happens to the machine."""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, text: str) -> None:
    """Put `text` into a file, in place of what is there. It is on the disk before the file has its name."""
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    partial.replace(path)
