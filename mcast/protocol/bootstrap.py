"""Bootstrap: how a cluster comes into being exactly once.

Only the first member of the config founds, and only after every member has answered that it is virgin (no vote given,
no event but GENESIS) and has the same member list. GENESIS, event 1, draws the cluster's uuid and lists all storage
ids. The founder stores it before offering it, and offers the same one after a restart. Nobody votes before all have
confirmed it and the founder calls the first vote: so two different GENESIS can never both be followed.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from mcast.errors import DecodeError
from mcast.limits import BOOTSTRAP_RETRY_S
from mcast.protocol.cluster_uuid import new_uuid
from mcast.protocol.core import Core
from mcast.protocol.effects import Append, Truncate
from mcast.protocol.quorum import majority
from mcast.protocol.states import Input, Role
from mcast.wire.envelope import Envelope, name_hash
from mcast.wire.frame import CHAIN_ZERO, Frame, decode_frame_untrusted, follows, make_frame
from mcast.wire.messages import (
    Configuration,
    Confirm,
    Found,
    Genesis,
    GenesisOffer,
    Member,
    Virgin,
    decode_genesis_untrusted,
    encode_message,
)
from mcast.wire.records import RecordKind, decode_records_untrusted, encode_record

_CALLS_PLAIN: Final = 3  # before deaf members are looked for: others are mostly still starting


def members_hash(members: tuple[tuple[str, str], ...]) -> bytes:
    """What two configs must share to found together: ids and addresses, in order."""
    text = "\n".join(f"{node} {address}" for node, address in members)
    return blake2b(text.encode(), digest_size=16).digest()


class Bootstrap:
    """The founder's call, and every member's answer to it. `on_confirmed` runs when all have stored GENESIS."""

    def __init__(self, core: Core, now: float, on_confirmed: Callable[[float], None]) -> None:
        self.core = core
        self.waiting_for: tuple[str, ...] = ()
        self.unlike: set[int] = set()
        """Members whose member list differs from ours."""
        self._on_confirmed = on_confirmed
        self._hash = members_hash(core.settings.members)
        self._nonce = core.random.getrandbits(128).to_bytes(16, "big")
        self._virgins: dict[int, bytes] = {core.me: core.meta.storage_id}
        self._confirmed: set[int] = set()
        self._founder = b""
        """The process that asked last."""
        self._calls = 0
        self._due = now
        is_founder = core.settings.is_member and core.settings.members[0][0] == core.settings.node
        if self.is_virgin:
            if is_founder:
                core.become_candidate(Input.FOUND)
            elif core.log.last_seq:
                core.become_follower(Input.JOIN)
        else:
            core.become_follower(Input.JOIN)

    @property
    def is_virgin(self) -> bool:
        """Whether no epoch can have begun with this node: it gave no vote, and holds at most a GENESIS that lists it.

        What it has promised does not matter. An epoch has the votes of a majority, so of another member than a founder
        that lost its disk; and a promise may be forged, which must not keep a cluster from ever being founded.
        """
        core, held = self.core, self.core.log.last_seq
        its_own = held == 1 and core.voters().get(core.me) == core.meta.storage_id
        return core.planned_meta.voted_epoch == 0 and (held == 0 or its_own)

    def tick(self, now: float) -> None:
        """Ask again those who have not answered."""
        core = self.core
        if core.role is not Role.BOOTSTRAP or now < self._due:
            return
        self._due = now + BOOTSTRAP_RETRY_S
        genesis = core.log.frame_at(1)
        answered = self._confirmed if genesis else set(self._virgins)
        self.waiting_for = tuple(
            node for node, _ in core.settings.members if name_hash(node) not in answered | {core.me}
        )
        if genesis is None and self._is_enough(answered):
            self._make_genesis(now)
            return
        self._calls += 1
        core.call(Found(self._nonce, self._hash), map(name_hash, self.waiting_for), self._calls - _CALLS_PLAIN)
        if genesis is not None and core.persisted_seq:
            self._offer(genesis, now)

    def deadline(self) -> float:
        """When `tick` has work next."""
        return self._due if self.core.role is Role.BOOTSTRAP else float("inf")

    def on_found(self, envelope: Envelope, found: Found) -> None:
        """The founder asks: virgin?"""
        if self.is_virgin:
            self._founder = envelope.incarnation
            self.core.send(envelope.sender, Virgin(found.nonce, self.core.meta.storage_id, self._hash))

    def on_virgin(self, envelope: Envelope, virgin: Virgin, now: float) -> None:
        """A member is virgin."""
        core = self.core
        if core.role is not Role.BOOTSTRAP or virgin.nonce != self._nonce:
            return
        if core.log.last_seq:
            if core.voters().get(envelope.sender, virgin.storage_id) != virgin.storage_id:
                self._begin_anew()
            return
        if virgin.members_hash != self._hash:
            self.unlike.add(envelope.sender)
            return
        self.unlike.discard(envelope.sender)
        if any(name_hash(node) == envelope.sender for node, _ in core.settings.members):
            self._virgins[envelope.sender] = virgin.storage_id
            if self._is_enough(set(self._virgins)):
                self._make_genesis(now)

    def on_genesis_offer(self, envelope: Envelope, offer: GenesisOffer, now: float) -> None:
        """Store the founder's GENESIS, in place of an earlier one, and confirm it."""
        core = self.core
        if not self.is_virgin or core.role is Role.BOOTSTRAP:
            return
        try:
            frame = decode_frame_untrusted(offer.frame)
            genesis = read_genesis_untrusted(frame)
        except DecodeError:
            core.counts["bad genesis"] += 1
            return
        listed = {name_hash(member.node): member.storage_id for member in genesis.config.members}
        if listed.get(core.me) != core.meta.storage_id and core.rules.bootstrap_by_all:
            core.counts["genesis without us"] += 1
            return
        if core.log.last_chain != frame.chain:
            if core.log.last_seq and core.planned_meta.promised and envelope.incarnation != self._founder:
                return  # a late word of another bootstrap: an epoch may have begun since
            self._drop_genesis()
            self._store(frame, lambda _: self._confirm(envelope.sender, frame))
            if core.role is Role.EMPTY:
                core.become_follower(Input.JOIN)
        elif core.persisted_seq:
            self._confirm(envelope.sender, frame)

    def on_confirm(self, envelope: Envelope, confirm: Confirm, now: float) -> None:
        """A member has stored GENESIS durably."""
        core = self.core
        genesis = core.log.frame_at(1)
        if core.role is not Role.BOOTSTRAP or genesis is None or confirm.chain != genesis.chain:
            return
        if core.voters().get(envelope.sender) == confirm.storage_id:
            self._confirmed.add(envelope.sender)
            self._finish_once_confirmed(now)

    def _begin_anew(self) -> None:
        """A member lost its disk before all had confirmed: nothing is promised yet, so GENESIS can be redrawn."""
        self._drop_genesis()
        self._virgins = {self.core.me: self.core.meta.storage_id}
        self._confirmed = set()

    def _drop_genesis(self) -> None:
        core = self.core
        if core.log.last_seq:
            core.log.truncate(0)
            core.forget_configs(0)
            core.void_appends()
            core.cut_persisted()
            core.effects.append(Truncate(core.ticket(lambda _: None), 0))

    def _is_enough(self, answered: set[int]) -> bool:
        members = len(self.core.settings.members)
        return len(answered) >= (members if self.core.rules.bootstrap_by_all else majority(members))

    def _make_genesis(self, now: float) -> None:
        core = self.core
        uuid = new_uuid(core.random.getrandbits(128))
        members = tuple(
            Member(node, self._virgins[name_hash(node)], address)
            for node, address in core.settings.members
            if name_hash(node) in self._virgins
        )
        genesis = Genesis(uuid, Configuration(1, members))
        record = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(genesis))
        frame = make_frame(0, 1, 1, 0, core.wall_ns(now), CHAIN_ZERO, record)
        self._store(frame, lambda then: self._offer(frame, then))

    def _store(self, frame: Frame, done: Callable[[float], None]) -> None:
        core = self.core
        core.log.append(frame)
        core.note_internal(frame)

        def on_persisted(now: float) -> None:
            core.persist(1, frame.chain)
            done(now)

        core.effects.append(Append(core.ticket(on_persisted, of_append=True), (frame,)))

    def _offer(self, frame: Frame, now: float) -> None:
        for node in self.core.voters():
            if node != self.core.me and node not in self._confirmed:
                self.core.send(node, GenesisOffer(frame.head + frame.body))
        self._finish_once_confirmed(now)

    def _finish_once_confirmed(self, now: float) -> None:
        if self.core.role is Role.BOOTSTRAP and self._confirmed | {self.core.me} >= set(self.core.voters()):
            self._on_confirmed(now)

    def _confirm(self, founder: int, frame: Frame) -> None:
        if self.core.log.last_seq == 1:
            self.core.send(founder, Confirm(frame.chain, self.core.meta.storage_id))


def read_genesis_untrusted(frame: Frame) -> Genesis:
    """The GENESIS in a frame that must be event 1 alone, of epoch 0, on the zero chain.

    Raises:
        DecodeError: it is not.
    """
    if (frame.epoch, frame.first, frame.count) != (0, 1, 1) or not follows(frame, CHAIN_ZERO):
        raise DecodeError("bad genesis", "not event 1 of epoch 0 on the zero chain")
    for record in decode_records_untrusted(frame.body):
        if record.kind == RecordKind.GENESIS:
            return decode_genesis_untrusted(record.payload)
    raise DecodeError("bad genesis", "no GENESIS record")
