"""Who votes, as the logs say it: the configurations they hold, and which disks can still be spared.

A configuration is effective as soon as it stands in a log; so a log's newest one decides whose acknowledgements its
sequencer may count. Two that follow each other differ by one disk, and the older has committed before the newer is
written: then any majority of one meets any majority of the other.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcast.protocol.quorum import majority
from mcast.wire.frame import Frame
from mcast.wire.messages import (
    Configuration,
    decode_config_untrusted,
    decode_epoch_start_untrusted,
    decode_genesis_untrusted,
)
from mcast.wire.records import RecordKind, decode_records_untrusted


def config_in(frame: Frame) -> tuple[RecordKind, Configuration] | None:
    """The configuration that a frame carries, and the kind of its record; None for all but the fabric's own events."""
    if not frame.body or frame.body[0] < RecordKind.GENESIS:
        return None
    for record in decode_records_untrusted(frame.body):
        if record.kind == RecordKind.GENESIS:
            return RecordKind.GENESIS, decode_genesis_untrusted(record.payload).config
        if record.kind == RecordKind.EPOCH_START:
            return RecordKind.EPOCH_START, decode_epoch_start_untrusted(record.payload).config
        if record.kind == RecordKind.CONFIG:
            return RecordKind.CONFIG, decode_config_untrusted(record.payload)
    return None


def disks(config: Configuration) -> set[bytes]:
    """The storage ids that vote."""
    return {member.storage_id for member in config.members}


def suffices(held: Iterable[bytes], config: Configuration) -> bool:
    """Whether these disks hold a majority of a configuration."""
    return len(disks(config) & set(held)) >= majority(len(config.members))


def differ(older: Configuration, newer: Configuration) -> str:
    """What is wrong with `newer` as the successor of `older`, in words; nothing when it is a lawful one."""
    if newer.number != older.number + 1:
        return f"configuration {newer.number} follows configuration {older.number}"
    if len(changed := disks(older) ^ disks(newer)) != 1:
        return f"configuration {newer.number} changes {len(changed)} disks at once"
    return ""
