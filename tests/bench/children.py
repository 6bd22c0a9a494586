"""Which processes a process has started, for tests of what must not stay behind."""

import contextlib
import os
from pathlib import Path


def lives(pid: int) -> bool:
    """Whether it runs; a zombie has no command line."""
    return bool(words(pid))


def words(pid: int) -> str:
    """Its command line; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(root: int | None = None) -> set[int]:
    """Processes that this one (or `root`) started, and that those did."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = path.read_text().partition(" (")
            parents[int(pid)] = int(rest.rpartition(") ")[2].split()[1])
    top = os.getpid() if root is None else root
    found = {top}
    for _ in range(4):
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found - {top}
