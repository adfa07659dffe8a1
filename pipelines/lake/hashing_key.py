"""The key of the node hashes. Made once, in a file next to the lake's folder that only its owner can read."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from conf.errors import Refusal

KEY_BYTES = 32


class KeyProblem(Refusal):
    """The hashing key is missing, unreadable or not the lake's; the message says what to do."""


def key_path(lake: Path) -> Path:
    """The file of the lake's key, next to the lake's folder."""
    return lake.with_name(lake.name + ".key")


def load_key(lake: Path, has_data: bool, expected_fingerprint: str | None) -> bytes:
    """The lake's key; a new one for a lake without data. KeyProblem when it is missing or another one."""
    path = key_path(lake)
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        if has_data:
            raise KeyProblem(
                f"the key file {path} is missing; put it back, the lake's node ids depend on it"
            ) from None
        key = secrets.token_bytes(KEY_BYTES)
        write_key(path, key)
    except OSError as e:
        raise KeyProblem(f"the key file {path} cannot be read: {e.strerror}") from None
    if len(key) != KEY_BYTES:
        raise KeyProblem(
            f"the key file {path} does not hold {KEY_BYTES} bytes; put back the lake's own key file"
        )
    if expected_fingerprint and fingerprint(key) != expected_fingerprint:
        raise KeyProblem(
            f"the key file {path} is not the one this lake was made with; put back the lake's own key file"
        )
    return key


def write_key(path: Path, key: bytes) -> None:
    """A key file that was not there, readable by its owner only from its first moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
        f.write(key)
        f.flush()
        os.fsync(f.fileno())


def fingerprint(key: bytes) -> str:
    """Tells keys apart without telling anything about them."""
    return hashlib.sha256(b"stitchlake key fingerprint\x00" + key).hexdigest()[:16]
