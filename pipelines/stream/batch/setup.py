"""What one stream's batches are processed with, from the start of the stream to its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from conf.policy import Policy
from conf.settings import Settings
from pipelines.lake.lake import Lake
from pipelines.lake.writing.writer import TableWriter
from pipelines.state.open_state import OpenState
from transforms.identity.components import Components
from transforms.ingest.framing.files_read import FileRead
from transforms.ingest.parse import RecordParser


@dataclass(frozen=True)
class BatchReport:
    """What one published batch was, for progress lines. `persons`: those whose profiles it touched."""

    batch_id: int
    received: int
    valid: int
    quarantined: int
    duplicate: int
    persons: int
    seconds: float
    steps: Mapping[str, float]


@dataclass(frozen=True)
class StreamSetup:
    """`stream`: the name of the stream's transactions. `topic_ids`: of each topic that it reads, by source.

    `open_state` gives the state as of a published snapshot. `offset_entry` gives the hash of the checkpoint's offset
    entry of a batch of the stream. `require_lock` raises when this process may not write the lake any more; it is
    asked before the first and before the last write of a batch. `on_published` is called with each batch that is
    published, `on_files` with the files of each batch of the stream.
    """

    lake: Lake
    writer: TableWriter
    parser: RecordParser
    policy: Policy
    components: Components
    settings: Settings
    stream: str
    key_fingerprint: str
    open_state: OpenState
    topic_ids: Mapping[str, str] = field(default_factory=dict)
    offset_entry: Callable[[int], str | None] = lambda stream_batch_id: None
    require_lock: Callable[[], None] = lambda: None
    on_published: Callable[[BatchReport], None] = lambda report: None
    on_files: Callable[[Sequence[FileRead]], None] = lambda files: None
