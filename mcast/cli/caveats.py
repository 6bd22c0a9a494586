"""What a cluster's file leaves unprotected: every tool says so to people; programs read it in status."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mcast.config import Config, load_config
from mcast.config.model import NOT_SYNCED

UNSEALED: Final = "unsealed"


def caveats(config: Config | Path) -> str:
    """To be put behind a line: empty, or one or two parts, each after a semicolon."""
    checked = load_config(config) if isinstance(config, Path) else config
    parts = [UNSEALED] if checked.key_file is None else []
    parts += [NOT_SYNCED] if checked.sync == "os" else []
    return "".join(f"; {part}" for part in parts)
