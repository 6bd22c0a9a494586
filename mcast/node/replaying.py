"""A start's replay of the journal, and what the log says of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from mcast.errors import EnvironmentProblem, Halted
from mcast.machine.engine import Engine
from mcast.node.applying import replay
from mcast.node.handlerlog import HandlerLog, trace_of
from mcast.storage.store import Store

_log: Final = logging.getLogger("mcast.node")


async def replay_journal(engine: Engine, store: Store, until: int, handlers: HandlerLog, directory: Path) -> None:
    """Apply what is committed, up to event `until`.

    Raises:
        EnvironmentProblem: it cannot be done; the message says what to do about it.
    """
    handlers.replaying = True
    node_id = handlers.node_id
    try:
        await replay(engine, store.frames_from(1), until)
    except Halted as halted:
        if halted.__cause__ is not None:
            _log.error("node %s: %s\n%s", node_id, halted, trace_of(halted.__cause__))
        raise EnvironmentProblem(
            f"node {node_id} cannot replay its journal in {directory}: {halted}",
            "correct the state machine; or, if the journal is what is damaged, move that folder away: the node "
            "comes back empty, fetches everything from the others and does not vote until it is readmitted",
        ) from halted
    handlers.replaying = False
    if handlers.unknown_commands:
        _log.warning(
            "node %s: the journal holds %d commands that the state machine does not have, the first is %s: they fail, "
            "as they would for a client; was a handler removed or renamed?",
            node_id, handlers.unknown_commands, handlers.first_unknown,
        )  # fmt: skip
