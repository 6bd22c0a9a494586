"""`mcast recover`: a majority is lost for ever, and one node's log goes on as another cluster, with it as only member.

Offline, on that node's data directory. The order of writes makes a crash harmless. First the meta: a new storage id,
which no vote or acknowledgement of the cluster before counts, and an epoch above all that is known here. Then RECOVERY,
the log's last event, alone in its frame and epoch: it names the new cluster's uuid, this node as the only voter, and
everybody who ever voted, so that they can come back with empty disks. A run that was cut short in between is repeated.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import Final

from mcast.config import Config
from mcast.errors import ConfigError, EnvironmentProblem, InUse
from mcast.limits import MEMBERS_MAX
from mcast.node.setup import make_settings, open_store
from mcast.protocol.climb import spent
from mcast.protocol.cluster_uuid import RECOVERIES_MAX, recovered_uuid
from mcast.protocol.core import Core
from mcast.protocol.effects import Meta
from mcast.protocol.recovered import Recovered
from mcast.storage.files import Files, RealFiles
from mcast.storage.looking import Unwritten
from mcast.storage.store import Store, draw_storage_id
from mcast.wire.envelope import name_hash
from mcast.wire.frame import Frame, make_frame
from mcast.wire.messages import Configuration as Members
from mcast.wire.messages import Member, Recovery, encode_message
from mcast.wire.records import RecordKind, encode_record

_UUID_BITS: Final = 56


@dataclass(frozen=True, slots=True)
class RecoveryLoss:
    """What a recovery on this node keeps and gives up. Ends in `last_seq`; was `done`, or only looked at."""

    node: str
    epoch: int
    """Of the last event."""
    last_seq: int
    commit_seq: int
    """Known committed here; up to `last_seq` all is kept, and counts as committed from then on."""
    members: tuple[str, ...]
    """Who votes, as this log has it."""
    must_rejoin: tuple[str, ...]
    """Who must come back with an empty data directory."""
    done: bool = False


def examine(config: Config, node_id: str, files: Files | None = None) -> RecoveryLoss:
    """What `recover` would keep and give up: the log is opened as at a start, and nothing of that is written.

    Raises:
        ConfigError: no such member. EnvironmentProblem: the node runs, or its directory holds no log.
    """
    store, found = _open(config, node_id, files, look=True)
    try:
        return _loss(config, _core(config, node_id, found), node_id)
    finally:
        store.close()


def recover(config: Config, node_id: str, files: Files | None = None) -> RecoveryLoss:
    """Go on with this node's log under a new cluster uuid, with this node as its only member.

    Raises:
        ConfigError, EnvironmentProblem: as `examine`.
    """
    store, found = _open(config, node_id, files)
    try:
        core = _core(config, node_id, found)
        loss = _loss(config, core, node_id)
        epoch = _epoch_above(core)
        if spent(epoch) or core.cluster_uuid[15] >= RECOVERIES_MAX or len(core.known) > MEMBERS_MAX:
            raise EnvironmentProblem(f"{node_id}: its log has no room for another recovery", "found a new cluster")
        meta = Meta(draw_storage_id(), promised=epoch, voted_epoch=epoch, voted_for=name_hash(node_id))
        store.write_meta(meta)
        store.append([_frame(config, core, meta, epoch)])
        store.sync()
        store.clear_suspect()
    finally:
        store.close()
    return RecoveryLoss(loss.node, epoch, loss.last_seq + 1, loss.last_seq + 1, (node_id,), loss.must_rejoin, done=True)


def _epoch_above(core: Core) -> int:
    """Above what was promised; where a forged promise leaves no room, above the log's epochs alone.

    Then the promise is reset. Nothing was numbered under it, for whoever stands needs a higher one. And whatever else
    was promised or voted, was so under storage ids that count for nothing in the cluster that goes on.
    """
    epoch = max(core.meta.promised, core.log.last_epoch) + 1
    return core.log.last_epoch + 1 if spent(epoch) else epoch


def _open(config: Config, node_id: str, files: Files | None, *, look: bool = False) -> tuple[Store, Recovered]:
    node = config.node(node_id)
    if node.role != "member":
        raise ConfigError("role", node.role, f"{node_id} is no member", "recover on a member, or make it one first")
    directory, base = config.data_dir / node_id, files or RealFiles()
    empty = EnvironmentProblem(f"{directory} holds no log", "recover on the node whose log reaches furthest")
    if files is None and not directory.exists():
        raise empty
    try:
        store, found = open_store(config, node_id, Unwritten(base, str(directory)) if look else base)
    except InUse as error:
        raise EnvironmentProblem(error.what, "stop that node first") from None
    if not store.last_seq:
        store.close()
        aside = [f"{name} was set aside" for name in store.set_aside if base.exists(f"{directory}/{name}")]
        lost = [f"at a start: {finding}" if look else finding for finding in store.findings]
        if lost or aside:  # by this start, or an earlier one
            raise EnvironmentProblem("; ".join((empty.what, *lost, *aside)), empty.remedy)
        raise empty
    return store, found


def _core(config: Config, node_id: str, found: Recovered) -> Core:
    """The log's configuration, commit and former voters, read as the protocol reads them at a start."""
    return Core(make_settings(config, config.node(node_id), 0, 0), found, random.Random(0))


def _loss(config: Config, core: Core, node_id: str) -> RecoveryLoss:
    members = tuple(member.node for member in core.config.members) if core.config else ()
    others = tuple(node.id for node in config.nodes if node.id != node_id)
    return RecoveryLoss(node_id, core.log.last_epoch, core.log.last_seq, core.commit_seq, members, others)


def _frame(config: Config, core: Core, meta: Meta, epoch: int) -> Frame:
    node = config.node(core.settings.node)
    own = Member(node.id, meta.storage_id, node.address)
    number = core.config.number + 1 if core.config else 1
    former = tuple(Member(name, bytes(16), address) for name, address in core.known.values())
    uuid = recovered_uuid(core.cluster_uuid, int.from_bytes(os.urandom(_UUID_BITS // 8), "big"))
    payload = encode_message(Recovery(uuid, Members(number, (own,)), former))
    newest = core.log.frame_at(core.log.last_seq)
    now = max(time.time_ns(), newest.time if newest is not None else 0)
    record = encode_record(RecordKind.RECOVERY, 1, 0, 0, 0, payload)
    return make_frame(epoch, core.log.last_seq + 1, 1, core.log.last_seq, now, core.log.last_chain, record)
