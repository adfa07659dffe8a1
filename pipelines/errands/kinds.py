"""Every kind of errand, and who runs it."""

from __future__ import annotations

from pipelines.errands.errands import Handler
from pipelines.quarantine.replay import replay_errand
from pipelines.rebuild.swap import SWAP, swap
from pipelines.upkeep.pause import upkeep

HANDLERS: dict[str, Handler] = {"replay": replay_errand, SWAP: swap, "upkeep": upkeep}
