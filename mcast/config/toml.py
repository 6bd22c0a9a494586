"""TOML of whatever origin: one way to read it, and to say what is wrong with it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mcast import limits
from mcast.errors import ConfigError


def parse_toml_untrusted(data: bytes, what: str, file: Path, fix: str) -> dict[str, Any]:
    """The document in a file's bytes. `what` the file is to be and the `fix` for another one go into the error.

    Raises:
        ConfigError: too large, or not TOML.
    """
    if len(data) > limits.CONFIG_BYTES_MAX:
        raise ConfigError(what, str(file), f"over {limits.CONFIG_BYTES_MAX} bytes", fix)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise ConfigError(what, str(file), f"not TOML: {problem}", "correct that line") from error
