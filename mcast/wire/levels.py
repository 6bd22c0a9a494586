"""How consistent a query's answer is to be; a module of its own, since the command line completes these words."""

from __future__ import annotations

from typing import Final, Literal, get_args

Consistency = Literal["any", "session", "bounded", "linearizable"]
LEVELS: Final[tuple[Consistency, ...]] = get_args(Consistency)
"""Every level, the weakest first."""
