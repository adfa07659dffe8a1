"""A decision that no batch of the lake could take is refused before it is put on record."""

from __future__ import annotations

from pathlib import Path

import phonenumbers
import pytest

from conf.tables import BATCHES, IDENTITY_DECISIONS
from pipelines.apps.cli.__main__ import main
from pipelines.lake.hashing_key import key_path
from pipelines.lake.lock import lake_lock
from pipelines.operations.decisions.inbox import INBOX
from tests.direct_lake import KEY, DirectLake

MERGE = ["merge", "device_id:d1", "device_id:d2", "--reason", "one"]


def wrong_key(lake: DirectLake, _: pytest.MonkeyPatch) -> list[str]:
    key_path(lake.path).write_bytes(KEY[::-1])
    return []


def no_key(lake: DirectLake, _: pytest.MonkeyPatch) -> list[str]:
    key_path(lake.path).unlink()
    return []


def other_policy(lake: DirectLake, _: pytest.MonkeyPatch) -> list[str]:
    return ["--policy", "strict_weak"]


def other_rules(lake: DirectLake, patched: pytest.MonkeyPatch) -> list[str]:
    patched.setattr(phonenumbers, "__version__", "99.0.0")
    return []


@pytest.mark.parametrize("is_streaming", [False, True], ids=["alone", "beside a stream"])
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_key, "not the one"),
        (no_key, "is missing"),
        (other_policy, "--policy"),
        (other_rules, "rebuild"),
    ],
)
def test_what_is_refused_does_not_wait_in_the_inbox(
    tmp_path: Path, monkeypatch, capsys, spoil, said: str, is_streaming: bool
) -> None:
    lake = DirectLake(tmp_path / "lake")
    event = {"timestamp": "2026-03-01T10:00:00Z"}
    lake.feed([event | {"event_id": n, "identifiers": {"device_id": f"d{n}"}} for n in ("1", "2")])
    key = key_path(lake.path).read_bytes()
    with monkeypatch.context() as patched:
        words = [*MERGE, *spoil(lake, patched), "--lake", str(lake.path)]
        if is_streaming:
            with lake_lock(lake.path):
                assert main(words) == 1
        else:
            assert main(words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not list((lake.path / INBOX).glob("*"))
    key_path(lake.path).write_bytes(key)
    assert len(lake.rows(BATCHES)) == 1
    assert main([*MERGE, "--lake", str(lake.path)]) == 0
    assert len(lake.rows(IDENTITY_DECISIONS)) == 1
