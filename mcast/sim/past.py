"""A long past: logs of very many epochs, made at once and written onto the disks of nodes that start with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mcast.protocol.effects import Meta
from mcast.storage.files import Files
from mcast.storage.segment import SEGMENT_BYTES
from mcast.storage.store import Store
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Configuration, EpochStart, Genesis, Member, encode_message
from mcast.wire.records import RecordKind, encode_record

_WRITTEN_AT_ONCE: Final = 4_096  # frames


def eventful(members: Sequence[Member], epochs: int, cluster_uuid: bytes) -> list[Frame]:
    """GENESIS and the EPOCH_START of so many epochs, each of which finds the one before it committed.

    The first of the members rules in all of them, and nothing else happened.
    """
    config = Configuration(1, tuple(members))
    genesis = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(Genesis(cluster_uuid, config)))
    start = encode_record(RecordKind.EPOCH_START, 1, 0, 0, 0, encode_message(EpochStart(members[0].node, config)))
    log = [make_frame(0, 1, 1, 0, 1, CHAIN_ZERO, genesis)]
    for epoch in range(1, epochs + 1):
        before = log[-1]
        log.append(make_frame(epoch, before.last + 1, 1, before.last, before.time + 1, before.chain, start))
    return log


def write_past(  # noqa: PLR0913 - whose it is, each by name
    files: Files, directory: str, cluster: str, node: str, frames: Sequence[Frame], *, storage_id: bytes, boot_id: str,
    segment_bytes: int = SEGMENT_BYTES,
) -> None:  # fmt: skip
    """A data directory as `node` left it in order, with these frames in its journal, having promised their epoch."""
    store, _ = Store.open(
        files, directory, cluster, node, read_boot_id=lambda: boot_id, draw_id=lambda: storage_id, owner=node,
        segment_bytes=segment_bytes,
    )  # fmt: skip
    for at in range(0, len(frames), _WRITTEN_AT_ONCE):
        store.append(frames[at : at + _WRITTEN_AT_ONCE])
    store.write_meta(Meta(storage_id, promised=frames[-1].epoch))
    store.close()
