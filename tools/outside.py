"""Real processes under load and faults; every call is written down and judged. See mcast.lab.outside.

Runs the nodes in network namespaces of their own where this machine allows it (root, ip, unshare, /dev/net/tun), else
on loopback, where a partition cuts UDP alone.

Exit 0: every promise was kept. 1: one was broken; the folder with history, journals and logs is kept. 2: unusable
input. 4: this machine refuses. 70: a bug of the test or the client library.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from mcast.cli.exits import ExitCode, exit_code_of, line_of
from mcast.cli.output import note, print_json
from mcast.errors import Error
from mcast.lab.lan import lan_problem, own_namespace
from mcast.lab.outside import Options, run_outside, summarize
from mcast.lab.trouble import KINDS

_INSIDE = "MCAST_OUTSIDE_NAMESPACE"  # set in the process that has a network namespace of its own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as the command line says; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load and faults (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of faults and load")
    parser.add_argument("--nodes", type=int, choices=range(1, 8), default=3)
    parser.add_argument("--clients", type=int, choices=range(1, 65), default=4, metavar="N")
    parser.add_argument("--subscribers", type=int, choices=range(33), default=3, metavar="N")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of faults, from %(default)s")
    parser.add_argument("--sync", choices=("always", "os"), default="os")
    parser.add_argument("--profile", choices=("default", "fast"), default="default")
    parser.add_argument("--sealed", action="store_true")
    parser.add_argument("--loopback", action="store_true", help="no namespaces, even where there could be")
    parser.add_argument("--keep", type=Path, help="keep history, journals and logs in this folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args(arguments)
    kinds = tuple(options.kinds.split(","))
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"--kinds: {', '.join(sorted(unknown))}: no such fault; there are {', '.join(KINDS)}")
    if options.keep is not None and options.keep.exists() and any(options.keep.iterdir()):
        parser.error(f"--keep: {options.keep} is not empty, and another run's journals would be judged with this one's")
    problem = "--loopback" if options.loopback else lan_problem()
    if problem is None and _INSIDE not in os.environ:
        words = own_namespace([__file__, *(sys.argv[1:] if arguments is None else arguments)])
        os.execvpe(words[0], words, os.environ | {_INSIDE: "1"})
    if problem is not None:
        note(f"outside: on loopback, for {problem}: partitions cut UDP alone")
    folder = options.keep or Path(tempfile.mkdtemp(prefix="mcast-outside-"))
    settings = Options(
        seconds=options.seconds, seed=options.seed, nodes=options.nodes, clients=options.clients,
        subscribers=options.subscribers, kinds=kinds, lan=problem is None, sync=options.sync, profile=options.profile,
        sealed=options.sealed,
    )  # fmt: skip
    try:
        result = asyncio.run(run_outside(settings, folder))
    except (Error, OSError) as error:
        note(f"outside: {line_of(error)}; see {folder}")
        return exit_code_of(error)
    except ExceptionGroup:
        traceback.print_exc()
        return ExitCode.BUG
    reported = summarize(result) | {"seed": options.seed, "seconds": options.seconds, "lan": problem is None}
    if result.is_fine and options.keep is None:
        shutil.rmtree(folder)
    else:
        (folder / "faults.txt").write_text("".join(f"{each}\n" for each in result.troubles))
    if not result.is_fine:
        note(f"outside: see {folder}")
    if options.json:
        print_json(reported)
    else:
        for name, value in reported.items():
            print(f"{name:>10}  {value}")
    return ExitCode.OK if result.is_fine else ExitCode.FINDING


if __name__ == "__main__":
    sys.exit(main())
