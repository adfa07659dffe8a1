"""How many examples a property is tried on: all of them, or a tenth where only a quick look is wanted."""

from __future__ import annotations

import os

IS_QUICK = bool(os.environ.get("STITCHLAKE_QUICK_TESTS"))


def examples(count: int) -> int:
    return max(3, count // 10) if IS_QUICK else count
