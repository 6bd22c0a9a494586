"""Another process under this node's own id: two machines with one config copied, say. One of the two must stop.

Each asks all, now and then, "is anybody else this node?", with random bytes of its own; a process that hears its own id
ask, from another incarnation, answers with the same bytes. An answer to a fresh question proves another living process
(and a recording of one proves nothing). Both then judge alike which is the lesser: first whoever has no vote, then the
younger, then the smaller incarnation. The lesser stops. The storage ids differ, so the log counts at most one of them
whatever they do; this is about saying so, and about not serving clients from the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mcast.limits import DUPLICATE_ID_ANSWER_S, DUPLICATE_ID_ASK_S
from mcast.wire.envelope import Envelope
from mcast.wire.messages import Twin

_LONG_AGO: Final = float("-inf")


class DuplicateIds:
    """Sans-I/O: time is passed in, what to multicast is taken out. `random(n)` gives n fresh unpredictable bytes.

    `votes` says whether this node has a vote just now.
    """

    def __init__(self, incarnation: bytes, random: Callable[[int], bytes], votes: Callable[[], bool]) -> None:
        self.heard_of: bytes | None = None
        """The incarnation of a duplicate that was proven alive."""
        self.asked_by: bytes | None = None
        """An incarnation that asked for the first time; the owner resets it when it was told."""
        self.lesser = False
        """Whether this process is the one of the two that must stop."""
        self._incarnation = incarnation
        self._random = random
        self._votes = votes
        self._began: float | None = None
        self._asked = b""
        self._asked_last: bytes | None = None
        self._due = _LONG_AGO
        self._answer_due = _LONG_AGO
        self.unsent: list[Twin] = []
        """What `take_outgoing` is to take."""

    def tick(self, now: float) -> None:
        """Ask when it is time to."""
        if now >= self._due:
            self.ask(now)

    def next_deadline(self) -> float:
        """When `tick` has something to do."""
        return self._due

    def ask(self, now: float) -> None:
        """Ask now."""
        self._began = now if self._began is None else self._began
        self._due = now + DUPLICATE_ID_ASK_S
        self._asked = self._random(16)
        self._say(self._asked, now, answer=False)

    def on_twin(self, envelope: Envelope, message: Twin, now: float) -> None:
        """A question or answer under this node's own id."""
        if envelope.incarnation == self._incarnation:
            return  # one's own, looped back
        if not message.answer:
            if envelope.incarnation != self._asked_last:
                self.asked_by = self._asked_last = envelope.incarnation
            if now >= self._answer_due:
                self._answer_due = now + DUPLICATE_ID_ANSWER_S
                self._say(message.random, now, answer=True)
        elif message.random == self._asked:
            self.heard_of = envelope.incarnation
            own = (self._votes(), self._age_ms(now), self._incarnation)
            self.lesser = own < (message.votes, message.age_ms, envelope.incarnation)

    def take_outgoing(self) -> list[Twin]:
        """Takes what is to be multicast."""
        taken, self.unsent = self.unsent, []
        return taken

    def _say(self, random: bytes, now: float, *, answer: bool) -> None:
        self.unsent.append(Twin(random, answer, self._votes(), self._age_ms(now)))

    def _age_ms(self, now: float) -> int:
        return 0 if self._began is None else int((now - self._began) * 1e3)
