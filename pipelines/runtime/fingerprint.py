"""Which program this is: a fingerprint of its rules, so that a half-written batch is never finished by others, and
its version."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.resources.abc import Traversable

import phonenumbers

RULES = ("conf", "transforms")
TABLES = "conf/identifiers"


@cache
def code_fingerprint() -> str:
    """A hash of the text of every module that decides what is written, from a folder or from a zipped wheel, and of
    what they read values by: tables of ours, telephone numbers, Unicode."""
    digest = hashlib.sha256(f"{phonenumbers.__version__} {unicodedata.unidata_version}".encode())
    for package in RULES:
        for name, text in sorted(_modules(files(package), package), key=lambda module: module[0].split("/")):
            digest.update(name.encode() + b"\x00" + text + b"\x00")
    return digest.hexdigest()[:16]


@cache
def program_version() -> str:
    """The installed version; `unknown` where the program was not installed but put on the path."""
    try:
        return version("stitchlake")
    except PackageNotFoundError:
        return "unknown"


def _modules(folder: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _modules(entry, f"{name}/{entry.name}")
        elif entry.name.endswith(".py") or name == TABLES:
            yield f"{name}/{entry.name}", entry.read_bytes()
