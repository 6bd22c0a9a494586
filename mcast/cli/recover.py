"""`mcast recover`: a majority is lost for ever; one node's log goes on alone."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mcast.cli import options, output
from mcast.cli.exits import Ended, ExitCode
from mcast.config import Config, load_config

if TYPE_CHECKING:
    from mcast.node.recover import RecoveryLoss

OTHERS_S: Final = 2.0  # for other nodes to say that they run


def recover(
    id: Annotated[
        str,
        typer.Option("--id", help="Whose log goes on: this machine's node.", metavar="ID",
                     autocompletion=options.complete_node_id),
    ],
    config: options.ConfigFile = options.DEFAULT_CONFIG,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Do it. Without, only show what would be kept and lost.")
    ] = False,
    json: options.Json = False,
) -> None:  # fmt: skip
    """Go on with one node's log, when a majority of members is lost for ever.

    Offline, on that node's machine. Its log is kept, under a new cluster uuid, with itself as the only member; the
    others must rejoin with empty data directories, and get their votes back by themselves. Without `--accept-loss` it
    changes nothing and ends with exit code 2: run it so on every node left, and choose the log that reaches furthest.
    With it, it refuses while another node answers.

    Examples: `mcast recover -c lab.toml --id n1` · `mcast recover -c lab.toml --id n1 --accept-loss`
    """
    from mcast.node import recover as recovering

    checked = load_config(config)
    loss = recovering.examine(checked, id)
    if accept_loss:
        asyncio.run(_refuse_while_others_run(checked, id))
        loss = recovering.recover(checked, id)
    if json:
        output.print_result(output.to_json(asdict(loss)))
    if not loss.done:
        raise Ended(ExitCode.USAGE, _warning(loss))
    if not json:
        rejoin = ", ".join(loss.must_rejoin)
        output.note(f"{id} goes on alone behind event {loss.last_seq}, as another cluster, above epoch {loss.epoch}")
        if rejoin:
            output.note(f"before {rejoin} start again, move their data directories away: they rejoin and vote then")


async def _refuse_while_others_run(config: Config, node_id: str) -> None:
    """End the program if another node answers: it may serve with a majority, and would halt at what this one does."""
    from mcast.client.admin import ask_each
    from mcast.net.tcp import Dialer, Unreachable
    from mcast.wire.stream import StreamKind

    answers = await ask_each(Dialer(config, "client"), StreamKind.STATUS, OTHERS_S)
    running = [
        node.id
        for node, answer in zip(config.nodes, answers, strict=True)
        if node.id != node_id and not isinstance(answer, Unreachable)
    ]
    if running:
        raise Ended(
            ExitCode.ENVIRONMENT,
            f"{', '.join(running)} still run{'s' if len(running) == 1 else ''}: nothing was changed; if a majority "
            "serves, no recovery is needed: start this node; else stop all nodes first",
        )


def _warning(loss: RecoveryLoss) -> str:
    others = ", ".join(member for member in loss.members if member != loss.node)
    kept = f"the log of {loss.node} ends at event {loss.last_seq} of epoch {loss.epoch}"
    unsure = f", of which {loss.commit_seq + 1} to {loss.last_seq} may never have been acknowledged: they would stay"
    return (
        f"{kept}{unsure if loss.last_seq > loss.commit_seq else ''}; whatever {others or 'others'} acknowledged beyond "
        "it would be lost for ever; if a majority of the members can still be started, start them instead; else repeat "
        "with --accept-loss on the node whose log reaches furthest"
    )
