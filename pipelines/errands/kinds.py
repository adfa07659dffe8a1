"""Every kind of errand, and who runs it."""

from __future__ import annotations

from pipelines.errands.errands import Handler
from pipelines.upkeep.pause import upkeep

HANDLERS: dict[str, Handler] = {"upkeep": upkeep}
