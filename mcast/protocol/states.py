"""The roles a replica plays, and the one table of moves between them.

A node begins EMPTY, without a log. The first member of the config goes through BOOTSTRAP: it asks every other member
whether it is virgin too, writes GENESIS, has it confirmed by all, and calls the first vote. Everybody else becomes a
FOLLOWER with the first thing it stores or promises. A follower that is a member and hears no confirmed round for an
election timeout becomes a PRE_CANDIDATE: it asks, without promising anything, whether a majority would vote for it
(pre-vote; Ongaro's thesis, 9.6). With that majority it makes the next epoch its own durable promise and vote and
becomes a CANDIDATE. With a majority of votes it is SEQUENCER_ELECT: its epoch has begun, its log is the law, but it
numbers nothing except EPOCH_START until that has committed (Raft, 5.4.2: only an own-epoch event commits by counting).
Then it is SEQUENCER. A higher promise, or an election timeout without a confirmed round, makes a follower of it again.

HALTED is left only by a restart: a safety rule was found broken, or the disk failed.

A pair that is not in the table is a bug, and raises.
"""

from __future__ import annotations

from enum import Enum
from typing import Final


class Role(Enum):
    """What a replica is doing for the group."""

    EMPTY = "empty"
    BOOTSTRAP = "bootstrap"
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    SEQUENCER_ELECT = "sequencer-elect"
    SEQUENCER = "sequencer"
    HALTED = "halted"


class Input(Enum):
    """What moves a replica from role to role."""

    FOUND = "may found"
    JOIN = "stored GENESIS, or promised an epoch"
    SILENCE = "no confirmed round for an election timeout"
    PRE_VOTED = "a majority would vote"
    APPOINTED = "the sequencer hands over"
    VOTED = "a majority voted"
    STARTED = "own EPOCH_START committed"
    RETREAT = "higher promise, lost vote, or quorum lost"
    BREAK = "safety rule broken or disk failed"


TRANSITIONS: Final[dict[tuple[Role, Input], Role]] = {
    (Role.EMPTY, Input.FOUND): Role.BOOTSTRAP,
    (Role.EMPTY, Input.JOIN): Role.FOLLOWER,
    (Role.BOOTSTRAP, Input.JOIN): Role.FOLLOWER,
    (Role.BOOTSTRAP, Input.PRE_VOTED): Role.CANDIDATE,
    (Role.FOLLOWER, Input.JOIN): Role.FOLLOWER,
    (Role.FOLLOWER, Input.SILENCE): Role.PRE_CANDIDATE,
    (Role.FOLLOWER, Input.RETREAT): Role.FOLLOWER,
    (Role.FOLLOWER, Input.APPOINTED): Role.CANDIDATE,
    (Role.PRE_CANDIDATE, Input.SILENCE): Role.PRE_CANDIDATE,
    (Role.PRE_CANDIDATE, Input.PRE_VOTED): Role.CANDIDATE,
    (Role.PRE_CANDIDATE, Input.RETREAT): Role.FOLLOWER,
    (Role.CANDIDATE, Input.SILENCE): Role.PRE_CANDIDATE,
    (Role.CANDIDATE, Input.VOTED): Role.SEQUENCER_ELECT,
    (Role.CANDIDATE, Input.RETREAT): Role.FOLLOWER,
    (Role.SEQUENCER_ELECT, Input.STARTED): Role.SEQUENCER,
    (Role.SEQUENCER_ELECT, Input.RETREAT): Role.FOLLOWER,
    (Role.SEQUENCER, Input.RETREAT): Role.FOLLOWER,
    **{(role, Input.BREAK): Role.HALTED for role in Role},
}

# Tuples, which are searched by identity: a Role's hash is a call of Python's.
LEADS_EPOCH: Final = (Role.SEQUENCER_ELECT, Role.SEQUENCER)
ELECTING: Final = (Role.PRE_CANDIDATE, Role.CANDIDATE)


def move(role: Role, event: Input) -> Role:
    """The role after `event`. Raises KeyError on a move that the table does not hold."""
    return TRANSITIONS[role, event]
