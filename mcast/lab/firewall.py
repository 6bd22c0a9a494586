"""What a node's machine drops on arrival: nft rules in its network namespace, for clusters on a `Lan`."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from typing import Final

from mcast.errors import EnvironmentProblem

_TABLE: Final = "table inet mcast_lab\ndelete table inet mcast_lab\n"


async def drop(wrap: Sequence[str], *rules: str, hook: str = "input") -> None:
    """Drop what matches one of these nft expressions, and nothing else any more; `wrap` enters the namespace.

    Raises EnvironmentProblem: nft refused.
    """
    lines = "".join(f"{rule} counter drop\n" for rule in rules)
    chain = f"chain c {{ type filter hook {hook} priority 0; policy accept;\n{lines}}}\n" if rules else ""
    words = [*wrap, "nft", "-f", "-"]
    child = await asyncio.create_subprocess_exec(*words, stdin=PIPE, stderr=PIPE)
    _, errors = await child.communicate(f"{_TABLE}table inet mcast_lab {{\n{chain}}}\n".encode())
    if child.returncode:
        raise EnvironmentProblem(f"nft: {errors.decode(errors='replace').strip()}", "install nftables, run as root")
