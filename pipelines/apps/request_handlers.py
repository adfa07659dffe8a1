"""The handlers of requests, by kind."""

from __future__ import annotations

from pipelines.operations.quarantine.replay import replay_request
from pipelines.operations.rebuild.swap import SWAP, swap
from pipelines.operations.requests.requests import Handler
from pipelines.operations.upkeep.pause import upkeep

HANDLERS: dict[str, Handler] = {"replay": replay_request, SWAP: swap, "upkeep": upkeep}
