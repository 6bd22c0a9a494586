"""From commands to record payloads: checked first, then packed in one pass.

Cost is paid per slice of commands, not per command, wherever the interpreter allows: types, names and arities are
checked as sets, sizes are summed by `accumulate`, and the slices of bytes that fill a record are joined at once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgpack

from mcast.errors import Refused
from mcast.limits import COMMAND_BYTES_MAX, COMMAND_DEPTH_MAX
from mcast.machine.commands import nests_too_deep
from mcast.wire.records import RECORD_HEADER_BYTES

SLICE_COMMANDS: Final = 1_024  # commands checked and packed at a time; bounds what a stream holds unpacked

Command = Sequence[Any]
"""A command's name and its arguments, in one tuple or list."""
Arities = Mapping[str, tuple[int, int]]
"""The least and greatest number of arguments of each name."""

_name_of = itemgetter(0)


class Parcel(NamedTuple):
    """The payload of one record to be, holding `count` whole commands; larger than a record: to be cut in fragments."""

    payload: bytes
    count: int  # type: ignore[assignment] # shadows tuple.count


def check_name(what: str, name: object, arguments: int, table: Arities) -> None:
    """Raise Refused unless `table` knows `name` with this many arguments. `what` is "command" or "query"."""
    pair = table.get(name) if isinstance(name, str) else None
    if pair is None:
        known = ", ".join(sorted(table))
        raise Refused(f"unknown {what} {name!r}; this machine has: {known}")
    least, most = pair
    if not least <= arguments <= most:
        takes = str(least) if least == most else f"{least} to {most}"
        raise Refused(f"{what} {name!r} takes {takes} arguments, not {arguments}")


class CommandPacker:
    """Packs commands for a machine with these `arities` into parcels; with its header, one takes `record_max` bytes."""

    def __init__(self, arities: Arities, record_max: int) -> None:
        self._arities = arities
        self._room = record_max - RECORD_HEADER_BYTES
        self._pack = msgpack.Packer().pack
        self._known: set[tuple[str, int]] = set()
        assert self._room > 0, "record_max leaves no room for a command"

    def pack(self, commands: Iterable[Command]) -> Iterator[Parcel]:
        """Parcels of all `commands`, in order; a full one is yielded as soon as its slice is packed.

        Raises:
            Refused: an unknown name, a wrong number of arguments, an argument that cannot be packed, or a command
                beyond COMMAND_BYTES_MAX; says which. All commands before it have been yielded then.
        """
        source = iter(commands)
        waiting: list[bytes] = []
        waiting_bytes = 0
        start = 0
        refused: Refused | None = None
        while refused is None and (taken := list(islice(source, SLICE_COMMANDS))):
            try:
                packed = self._pack_slice(taken)
            except Refused:
                packed, refused = self._pack_until_refused(taken, start)
            start += len(taken)
            waiting += packed
            waiting_bytes += sum(map(len, packed))
            if waiting_bytes >= self._room:
                *full, rest = self._cut(waiting)
                yield from full
                waiting, waiting_bytes = rest, sum(map(len, rest))
        if waiting:
            *full, rest = self._cut(waiting)
            yield from full
            if rest:
                yield Parcel(b"".join(rest), len(rest))
        if refused is not None:
            raise refused

    def pack_one(self, command: Command) -> Parcel:
        """The parcel of a single command. Raises Refused as `pack`."""
        return Parcel(self._pack_slice([command])[0], 1)

    def _pack_until_refused(self, commands: list[Command], start: int) -> tuple[list[bytes], Refused]:
        """The packed commands before the one that is to blame, and the error that names it."""
        packed: list[bytes] = []
        for command in commands:
            try:
                packed += self._pack_slice([command])
            except Refused as refused:
                return packed, Refused(f"command {start + len(packed)}: {refused.reason}")
        raise AssertionError("a slice is refused for one of its commands")

    def _pack_slice(self, commands: list[Command]) -> list[bytes]:
        try:
            kinds = set(zip(map(_name_of, commands), map(len, commands), strict=True))
            plain = set(map(type, commands)) <= {tuple, list}
        except (TypeError, IndexError, KeyError):
            plain = False
        if not plain:
            raise Refused(f"{commands[0]!r:.80} is no command: a list or tuple that begins with a name")
        for name, size in kinds - self._known:
            check_name("command", name, size - 1, self._arities)
            self._known.add((name, size))
        try:
            packed = list(map(self._pack, commands))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        if max(map(len, packed)) > COMMAND_BYTES_MAX:
            raise Refused(f"a command packs to {max(map(len, packed))} bytes; at most {COMMAND_BYTES_MAX}")
        for one in packed:
            if len(one) > COMMAND_DEPTH_MAX and nests_too_deep(one):
                raise Refused(f"an argument cannot be sent: nested deeper than {COMMAND_DEPTH_MAX} levels")
        return packed

    def _cut(self, packed: list[bytes]) -> Iterator[Any]:
        """Parcels that fill a record each, and at last the list of packed commands that do not fill one yet."""
        ends = list(accumulate(map(len, packed)))
        first, before, room = 0, 0, self._room
        while first < len(packed):
            last = bisect_right(ends, before + room, first)
            if last == first:
                last = first + 1
            elif last == len(packed):
                break
            yield Parcel(b"".join(packed[first:last]), last - first)
            first, before = last, ends[last - 1]
        yield packed[first:]
