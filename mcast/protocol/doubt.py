"""What a replica does when another node tells it that its log lacks what it acknowledged (see `caution`)."""

from __future__ import annotations

from mcast.protocol.core import Core
from mcast.protocol.effects import LogDoubted
from mcast.protocol.election import Election
from mcast.protocol.reading import Reading
from mcast.protocol.states import ELECTING, Input


def step_aside(core: Core, reading: Reading, election: Election, reported: LogDoubted, now: float) -> None:
    """Become a suspect, durably: do not lead, do not stand for election, and take no proof from before this."""
    core.doubt(reported, now)
    reading.on_doubt()
    if core.leads_epoch or core.role in ELECTING:
        core.become_follower(Input.RETREAT, None if core.leads_epoch else core.sequencer)
        election.restart_timeout(now)
