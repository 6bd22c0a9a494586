"""Configurations in a log: which is the newest, who votes by it, and what names it.

A configuration is effective as soon as it is in the log. Its number alone does not name it: two epochs can write two
configurations of one number, one after the other was cut, and whoever holds the dead one must not take a majority of
its members for a majority of the cluster. So the epoch of the event that brought it names it too. EPOCH_START repeats
the configuration under a newer epoch, and so tells that whatever else was written before is dead; that it still is the
same one its hash tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

from mcast.wire.envelope import name_hash
from mcast.wire.frame import Frame
from mcast.wire.messages import Configuration, encode_message


class ConfigName(NamedTuple):
    """What names a configuration: the epoch of the event that brought it, its number, and its BLAKE2b-128."""

    epoch: int
    number: int
    digest: bytes


UNNAMED: Final = ConfigName(0, 0, bytes(16))
"""The name of no configuration: of a log that holds none."""


def is_outdated(own: ConfigName, others: Iterable[ConfigName], *, by_epoch: bool = True) -> bool:
    """Whether any of `others` is newer than `own`, and another: then its members, not ours, decide.

    `by_epoch=False` looks at numbers alone, which is the ablation.
    """
    if not by_epoch:
        return max([other.number for other in others], default=0) > own.number
    newest = max([own, *others], key=lambda name: (name.epoch, name.number))
    return newest.digest != own.digest and (newest.epoch, newest.number) != (own.epoch, own.number)


class _Entry(NamedTuple):
    seq: int
    config: Configuration
    voters: dict[int, bytes]
    name: ConfigName


class Configs:
    """One log's configurations, oldest first; of those long committed only the newest is kept."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    @property
    def newest(self) -> Configuration | None:
        """The effective configuration."""
        return self._entries[-1].config if self._entries else None

    @property
    def voters(self) -> dict[int, bytes]:
        """Node hash -> storage id of its members."""
        return self._entries[-1].voters if self._entries else {}

    @property
    def name(self) -> ConfigName:
        """The effective configuration's name."""
        return self._entries[-1].name if self._entries else UNNAMED

    @property
    def seq(self) -> int:
        """The event that carries the effective configuration; 0 without one."""
        return self._entries[-1].seq if self._entries else 0

    def adopt(self, frame: Frame, config: Configuration) -> None:
        """A frame that joined the log carries a configuration: another one or, as most EPOCH_STARTs do, the same."""
        if self._entries and (before := self._entries[-1]).config is config:
            name = before.name._replace(epoch=frame.epoch)
            self._entries.append(before._replace(seq=frame.first, name=name))
            return
        voters = {name_hash(member.node): member.storage_id for member in config.members}
        digest = blake2b(encode_message(config), digest_size=16).digest()
        self._entries.append(_Entry(frame.first, config, voters, ConfigName(frame.epoch, config.number, digest)))

    def forget(self, last: int) -> None:
        """A truncation behind event `last` takes its configurations with it."""
        self._entries = [entry for entry in self._entries if entry.seq <= last]

    def trim(self, commit: int) -> None:
        """Forget configurations that no truncation can make the newest again."""
        while len(self._entries) > 2 and self._entries[1].seq <= commit:
            del self._entries[0]
