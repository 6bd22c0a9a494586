"""How consistent a query's answer is to be; a module of its own, since the command line completes these words."""

from __future__ import annotations

from typing import Final, Literal, get_args

Level = Literal["any", "session", "bounded", "linearizable"]
LEVELS: Final[tuple[Level, ...]] = get_args(Level)
"""Every level, the weakest first."""
