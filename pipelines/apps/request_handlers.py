"""Every kind of errand, and who runs it."""

from __future__ import annotations

from pipelines.operations.quarantine.replay import replay_errand
from pipelines.operations.rebuild.swap import SWAP, swap
from pipelines.operations.requests.requests import Handler
from pipelines.operations.upkeep.pause import upkeep

HANDLERS: dict[str, Handler] = {"replay": replay_errand, SWAP: swap, "upkeep": upkeep}
