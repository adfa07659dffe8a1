"""Every kind of errand, and who runs it."""

from __future__ import annotations

from pipelines.errands.errands import Handler

HANDLERS: dict[str, Handler] = {}
