"""How much memory this process may still take, in bytes."""

from __future__ import annotations

from pathlib import Path

_MEMINFO, _CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def free_memory(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Bytes that the machine has available, or what is left below a container's limit if that is less.

    None where the system says neither (it is not Linux).
    """
    found = [value for value in (_available(meminfo), _below_limit(cgroup)) if value is not None]
    return min(found, default=None)


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _below_limit(cgroup: Path) -> int | None:
    """Bytes left below the limit of cgroup v2, which container runtimes use; None without a limit."""
    try:
        limit = (cgroup / "memory.max").read_text(encoding="ascii").strip()
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used)
