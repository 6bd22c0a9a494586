"""A start's replay of the journal: it must come to what it came to before, or the code has changed under it.

At a clean stop the node keeps its result chain at a few events. The next start compares: during the replay, and behind
it until the last of those events has been applied again. A handler that was changed meanwhile, or that is not
deterministic, shows there, before clients see a state that contradicts what they were told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcast.errors import DecodeError, EnvironmentProblem, Halted
from mcast.node.applying import replay
from mcast.node.handlerlog import trace_of
from mcast.storage.files import Files
from mcast.storage.results import RESULTS_NAME, KeptResults, load_results, store_results

if TYPE_CHECKING:
    from mcast.node.shell import Shell

_log: Final = logging.getLogger("mcast.node")


async def replay_journal(shell: Shell, files: Files, directory: Path) -> Results:
    """Apply what is committed. If that comes to something else than before, the node has halted on return.

    Raises:
        EnvironmentProblem: it cannot be done; the message says what to do about it.
    """
    handlers, engine, until = shell.handlers, shell.engine, shell.replica.commit_seq
    results = Results(shell, files, directory)
    handlers.replaying = True
    try:
        await replay(engine, shell.store.frames_from(1), until)
    except Halted as halted:
        if halted.__cause__ is not None:
            _log.error("node %s: %s\n%s", shell.node_id, halted, trace_of(halted.__cause__))
        raise EnvironmentProblem(
            f"node {shell.node_id} cannot replay its journal in {directory}: {halted}",
            "correct the state machine; or, if the journal is what is damaged, move that folder away: the node "
            "comes back empty, fetches everything from the others and does not vote until it is readmitted",
        ) from halted
    handlers.replaying = False
    if handlers.unknown_commands:
        _log.warning("node %s: %s: they fail, as they would for a client", shell.node_id, _unknown(shell))
    results.compare()
    if results.has_pending and shell.halted is None:
        shell.on_applied.append(results.on_applied)
    return results


class Results:
    """What the last clean stop kept, as long as it is `has_pending`; and what this one will."""

    def __init__(self, shell: Shell, files: Files, directory: Path) -> None:
        self._shell = shell
        self._files = files
        self._directory = directory
        self._kept: KeptResults | None = None
        try:
            self._kept = load_results(files, str(directory))
        except (DecodeError, OSError) as error:
            _log.warning(
                "node %s: %s: %s; whether this replay comes to what it came to before is not checked",
                shell.node_id, directory / RESULTS_NAME, error,
            )  # fmt: skip

    @property
    def has_pending(self) -> bool:
        """Whether some of what was kept is still to come."""
        return self._kept is not None

    def on_applied(self, _: Sequence[object]) -> None:
        """Events were applied."""
        if self._kept is not None and self._shell.engine.applied_seq >= self._kept.marks[-1][0]:
            self.compare()
        if self._kept is None and self.on_applied in self._shell.on_applied:
            self._shell.on_applied.remove(self.on_applied)

    def compare(self) -> None:
        """Halt the node if an event that has been applied came to something else than it did."""
        kept, engine = self._kept, self._shell.engine
        if kept is None or not kept.marks:
            self._kept = None
            return
        now = {seq: (chain, results) for seq, chain, results in self._marks()}
        equal = 0
        for seq, chain, results in kept.marks:
            if seq not in now or now[seq][0] != chain:
                continue  # of another log, or not to be compared here
            if now[seq][1] != results:
                self._kept = None
                self._shell.halt(self._words(kept.runs, equal, seq))
                return
            equal = seq
        if engine.applied_seq >= kept.marks[-1][0]:
            self._kept = None

    def keep(self) -> None:
        """At a clean stop: what the journal came to so far. What is still pending stays."""
        shell = self._shell
        if shell.halted is not None or self.has_pending or not shell.engine.applied_seq:
            return
        try:
            store_results(self._files, str(self._directory), KeptResults(shell.runs, tuple(self._marks())))
        except OSError as error:
            _log.warning("node %s: %s: %s", shell.node_id, self._directory / RESULTS_NAME, error.strerror or error)

    def _marks(self) -> list[tuple[int, bytes, bytes]]:
        shell, engine = self._shell, self._shell.engine
        marks = {engine.applied_seq: (engine.applied_seq, engine.chain, engine.result_chain)}
        for seq, known, results in engine.marks():
            chain = known if known is not None else shell.replica.chain_at(seq)
            if chain is not None:
                marks[seq] = seq, chain, results
        return [marks[seq] for seq in sorted(marks)]

    def _words(self, runs: dict[str, Any], equal: int, seq: int) -> str:
        shell = self._shell
        then = [
            f"{kind} {runs[kind]} then, {shell.runs[kind]} now"
            for kind in ("machine", "machine_version", "python", "mcast")
            if kind in runs and runs[kind] != shell.runs[kind]
        ]
        if shell.handlers.unknown_commands:
            then.append(_unknown(shell))
        suffix = f" ({'; '.join(then)})" if then else ""
        return (
            f"the journal comes to other results than before the last stop, equal up to event {equal}, different at "
            f"event {seq}{suffix}: was a handler changed? Put back the code that ran then; or, if the change is meant "
            f"for all that ever happened, stop all nodes, remove {self._directory / RESULTS_NAME} on each, and start "
            "all of them with the same code"
        )


def _unknown(shell: Shell) -> str:
    handlers = shell.handlers
    return (
        f"the journal holds {handlers.unknown_commands} commands that the state machine does not have, the first is "
        f"{handlers.first_unknown}"
    )
