"""`mcast keygen`: make a key file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mcast.cli import options, output


def keygen(
    path: Annotated[Path, typer.Argument(help="Where to write it.", metavar="FILE")],
    json: options.Json = False,
) -> None:
    """Make a key file.

    It holds one new key and is readable by its owner only. An existing file is never overwritten.

    Examples: `mcast keygen lab.key`, then `key_file = "lab.key"` in the config, and a copy on every host.
    """
    from mcast.seal.keys import generate_key_file

    generate_key_file(path)
    if json:
        output.print_result(output.to_json({"key_file": str(path)}))
    else:
        output.note(f'wrote {path}; next: key_file = "{path.name}" in the config, and a copy on every host (mode 0600)')
