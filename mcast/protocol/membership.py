"""Readmission: how a member that lost its disk gets its vote back.

It returns under a new storage id, follows the stream like an observer, and applies by acknowledging. The sequencer
first removes it under its old storage id, waits until that has committed, and then adds it under the new one:
replacing it in one step would let two majorities miss each other (the old one may count the lost disk's vote, the new
one need not).

A configuration takes effect when it is appended, so one is appended only when the one before has committed, and only
after an event of the own epoch has (Ongaro's correction to single-server changes, 2015).
"""

from __future__ import annotations

from mcast.protocol.core import Core
from mcast.wire.messages import Ack, Configuration, Member


class Membership:
    """The sequencer's list of applicants, one configuration at a time."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.applicants: dict[int, bytes] = {}
        """Nodes that wait for their votes, with their storage ids."""

    def on_ack(self, node: int, ack: Ack) -> None:
        """A node acknowledged under a storage id that is no voter's: it applies once it has caught up."""
        core = self.core
        if node in core.known and ack.seq >= core.commit_seq and core.log.chain_at(ack.seq) == ack.chain:
            self.applicants[node] = ack.storage_id

    def next_config(self, start_seq: int) -> Configuration | None:
        """The configuration to append now, if any may be."""
        core = self.core
        config = core.config
        if not self.applicants or config is None or core.commit_seq < max(start_seq, core.configs.seq):
            return None
        node, storage_id = next(iter(self.applicants.items()))
        node_id, address = core.known[node]
        others = tuple(member for member in config.members if member.node != node_id)
        is_listed = len(others) < len(config.members)
        if is_listed and core.voters()[node] == storage_id:
            del self.applicants[node]
            return None
        if is_listed and core.rules.replace_in_two_steps:
            return Configuration(config.number + 1, others) if others else None
        del self.applicants[node]
        order = {name: index for index, (name, _) in enumerate(core.known.values())}
        members = sorted((*others, Member(node_id, storage_id, address)), key=lambda member: order[member.node])
        return Configuration(config.number + 1, tuple(members))
