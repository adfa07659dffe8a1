"""Have a request run: by ourselves where no stream writes the lake, else by the stream between two of its batches.

asker ── lock is free ──▶ handler(holder, arguments) ──▶ answer
   └──── a stream has it: <lake>/_stitchlake/requests/ID.json ──▶ stream: handler ──▶ ID.answer ──▶ asker

A handler that is killed leaves a lake that the next writer can go on with; whoever asked has it run from its start.
Handlers raise ErrandFailed, or a kind of it, for what somebody should read.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conf.errors import Refusal
from conf.policy import Policy
from conf.settings import Settings
from pipelines.lake.fence import LakeChanged
from pipelines.lake.lake import Lake
from pipelines.lake.lock import LakeLocked
from pipelines.lake.snapshot import published
from pipelines.operations.attempt import ATTEMPT, take_back_unfinished
from pipelines.operations.decisions.inbox import settle
from pipelines.operations.requests.holder import Holder, NotReady, holder_of, holding
from pipelines.state.open_state import OpenState
from pipelines.stream.batch.intent import INTENT, pending_intent

Answer = dict[str, Any]  # what JSON can hold
Handler = Callable[[Holder, Mapping[str, Any]], Answer]

_FOLDER = "_stitchlake/requests"
_LOOKS_EVERY_SECONDS = 0.2


class RequestFailed(Refusal):
    """A request was refused or not finished; the message is the handler's own, or says what to do."""


def run_request(
    lake_path: Path,
    policy: Policy,
    settings: Settings,
    kind: str,
    handlers: Mapping[str, Handler],
    arguments: Mapping[str, Any],
    *,
    patience_seconds: float = 600.0,
    say: Callable[[str], None] = lambda text: None,
) -> Answer:
    """Run the request `kind` with `arguments` (plain JSON), and return its answer.

    ErrandFailed when a running stream refused it or did not get to it within `patience_seconds`. What the handler
    raises is raised as it is where no stream runs.
    """
    until = time.monotonic() + patience_seconds
    asked: Path | None = None
    try:
        while True:
            try:
                with holding(lake_path, policy, settings) as holder:
                    # A stream may have answered before it ended.
                    return _taken(asked) or handlers[kind](holder, arguments)
            except LakeLocked:
                if asked is None:
                    asked = _ask(lake_path, kind, arguments)
                    say("a stream writes this lake: it does this between two of its batches …")
            if (answer := _taken(asked)) is not None:
                return answer
            if time.monotonic() > until:
                raise RequestFailed(
                    "the stream did not get to it; try again when it has less to do, or stop it first"
                )
            time.sleep(_LOOKS_EVERY_SECONDS)
    finally:
        if asked is not None:  # nobody waits for it any more
            asked.unlink(missing_ok=True)
            _answer_path(asked).unlink(missing_ok=True)


def is_asked(lake_path: Path) -> bool:
    """Whether a request waits for the stream. Cheap: the stream looks several times a second."""
    return any((lake_path / _FOLDER).glob("*.json"))


def run_asked(
    lake: Lake,
    policy: Policy,
    settings: Settings,
    handlers: Mapping[str, Handler],
    read_by: Mapping[str, str] | None = None,
    open_state: OpenState | None = None,
    on_trouble: Callable[[str], None] = lambda line: None,
) -> int:
    """Run what waits, for the stream: it has the lock, and no batch of it runs. Returns how many.

    A request that cannot be read is put aside, and `on_trouble` gets a line.

    read_by: the stream's mappings and their fingerprints. open_state: gives the stream's state of the lake.
    None while a batch is half-written: its retry relies on the versions that it was begun with. What a handler that
    fails has half-written is taken back; raises what hinders that, because no batch may follow then.
    """
    if not is_between_batches(lake):
        return 0
    asked = sorted((lake.path / _FOLDER).glob("*.json"))
    for path in asked:
        try:
            request = _read(path)
        except FileNotFoundError:  # whoever asked has given up
            continue
        except (OSError, ValueError):
            _put_aside(path, on_trouble)
            continue
        answer = _outcome(
            lambda: holder_of(lake, policy, settings, read_by or {}, open_state), handlers, request
        )
        if "problem" in answer and is_begun(lake):  # the stream's next batch must not build on half of it
            take_back_unfinished(lake, published(lake))
            settle(lake, None)
        _put(_answer_path(path), answer)
        path.unlink(missing_ok=True)
    return len(asked)


def _read(path: Path) -> Mapping[str, Any]:
    """The request in a file. ValueError where it is none."""
    request = json.loads(path.read_bytes())
    if not isinstance(request, dict) or not {"kind", "arguments"} <= request.keys():
        raise ValueError
    return request


def _put_aside(path: Path, on_trouble: Callable[[str], None]) -> None:
    """Out of the way of the other requests, with its content, and an answer to whoever may wait for one."""
    aside = path.with_suffix(".damaged")
    path.replace(aside)
    _put(_answer_path(path), {"problem": f"the request was damaged and is put aside as {aside}; ask again"})
    on_trouble(
        f"a request to the stream cannot be read; it is put aside as {aside}, remove it when you have seen it"
    )


def is_between_batches(lake: Lake) -> bool:
    """Whether something is published and no batch is half-written."""
    snapshot = published(lake)
    return snapshot is not None and pending_intent(lake.path / INTENT, snapshot.batch_id) is None


def is_begun(lake: Lake) -> bool:
    """Whether something of a request is on record as begun and not published."""
    return not is_between_batches(lake) or (lake.path / ATTEMPT).exists()


def _outcome(
    hold: Callable[[], Holder], handlers: Mapping[str, Handler], request: Mapping[str, Any]
) -> Answer:
    """The answer, or what hindered it: a request must not end the stream."""
    try:
        return {"answer": handlers[request["kind"]](hold(), request["arguments"])}
    except (RequestFailed, LakeChanged, NotReady) as e:
        return {"problem": str(e)}
    except Exception as e:  # its words may quote a value
        return {"problem": f"the stream could not do it: {type(e).__name__}; stop the stream and try again"}


def _ask(lake_path: Path, kind: str, arguments: Mapping[str, Any]) -> Path:
    path = lake_path / _FOLDER / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    _put(path, {"kind": kind, "arguments": dict(arguments)})
    return path


def _taken(asked: Path | None) -> Answer | None:
    """The stream's answer, once it is there. ErrandFailed if it is a refusal."""
    if asked is None:
        return None
    try:
        found = json.loads(_answer_path(asked).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise RequestFailed("the stream's answer is damaged; look what is done, and ask again") from None
    if "problem" in found:
        raise RequestFailed(found["problem"])
    return found["answer"]


def _answer_path(asked: Path) -> Path:
    return asked.with_suffix(".answer")


def _put(path: Path, content: object) -> None:
    hidden = path.with_suffix(".partial")
    hidden.write_text(json.dumps(content), encoding="utf-8")
    hidden.replace(path)
