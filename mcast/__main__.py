"""`python -m mcast` is the command `mcast`."""

from __future__ import annotations

import sys


def run(name: str | None = None) -> int:
    """The command; the exit code. Also of a Ctrl-C that comes while its modules are being imported."""
    try:
        from mcast.cli.app import main

        return main(name=name)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(run("mcast"))
