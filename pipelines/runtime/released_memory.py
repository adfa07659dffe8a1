"""Memory that is freed: given back to the operating system after a load, kept for the next batch otherwise."""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa

# glibc's names for it in the environment, and for mallopt (malloc.h). Its own thresholds of 128 KiB send every large
# array's memory back and fetch it again, page by page (docs/adr/0011).
_TRIM, _MAP = 128 * 2**20, 64 * 2**20
_IN_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": _TRIM, "MALLOC_MMAP_THRESHOLD_": _MAP}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_for_next() -> None:
    """Let this process and those that it starts keep what a batch frees. Does nothing without glibc, and leaves what
    somebody has set in the environment as it is."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None or _IN_ENVIRONMENT.keys() & os.environ.keys():
        return
    os.environ.update({name: str(value) for name, value in _IN_ENVIRONMENT.items()})
    set_option(_M_TRIM_THRESHOLD, _TRIM)
    set_option(_M_MMAP_THRESHOLD, _MAP)


def give_back() -> None:
    """Return freed memory to the operating system, as far as Arrow and the C library can."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
