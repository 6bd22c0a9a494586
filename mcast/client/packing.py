"""From commands to record payloads: checked first, then packed in one pass.

Cost is paid per slice of commands, not per command, wherever the interpreter allows: types, names and arities are
checked as sets, and as many small commands as should fill a record are packed by one call. Sizes of single commands
among them are measured only when the record overflows. `packed_from` takes any source of commands, a bounded number of
bytes at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgpack

from mcast.errors import DecodeError, Refused
from mcast.limits import COMMAND_BYTES_MAX, COMMAND_VALUES_MAX
from mcast.machine.commands import LARGE_BYTES, looks_decodable, why_undecodable
from mcast.machine.plain import ATOMS, FIXARRAY_MAX
from mcast.wire.records import RECORD_HEADER_BYTES
from mcast.wire.values import bound_values_untrusted

FEW: Final = 12  # commands in a record; guessing how many will fill it pays only for more
FEW_AT_ONCE: Final = 64  # of those packed at a time: they may be large
SLICE_COMMANDS: Final = 1_024  # commands checked and packed at a time; bounds what a stream holds unpacked

Command = Sequence[Any]
"""A command's name and its arguments, in one tuple or list."""
Arities = Mapping[str, tuple[int, int]]
"""The least and greatest number of arguments of each name."""

_name_of = itemgetter(0)


class PackedCommands(NamedTuple):
    """The payload of one record to be, holding `count` whole commands; larger than a record: to be cut in fragments."""

    payload: bytes
    count: int  # type: ignore[assignment] # shadows tuple.count


_packed_commands: Final = partial(tuple.__new__, PackedCommands)  # as PackedCommands(...), in half the time


def check_name(what: str, name: object, arguments: int, table: Arities) -> None:
    """Raise Refused unless `table` knows `name` with this many arguments. `what` is "command" or "query"."""
    pair = table.get(name) if isinstance(name, str) else None
    if pair is None:
        known = ", ".join(sorted(table))
        raise Refused(f"unknown {what} {name!r}; this machine has: {known}")
    least, most = pair
    if not least <= arguments <= most:
        takes = str(least) if least == most else f"{least} to {most}"
        raise Refused(f"{what} {name!r} takes {takes} argument{'' if least == most == 1 else 's'}, not {arguments}")


class _Filling:
    """The record that is being filled."""

    __slots__ = ("count", "payload")

    def __init__(self) -> None:
        self.payload = b""
        self.count = 0


class CommandPacker:
    """Packs commands for a machine with these `arities`; with its header, one takes `record_max` bytes.

    A command holds at most `values_max` values, those inside others among them.
    """

    def __init__(self, arities: Arities, record_max: int, values_max: int = COMMAND_VALUES_MAX) -> None:
        self._arities = arities
        self._room = record_max - RECORD_HEADER_BYTES
        self._values_max = values_max
        self._pack = msgpack.Packer().pack
        self._known: set[tuple[Any, int]] = set()
        self._usual = (1, 64)
        """Commands and bytes of the last full record: what to expect of the next."""
        assert self._room > 0, "record_max leaves no room for a command"

    def pack(self, commands: Iterable[Command], start: int = 0) -> Iterator[PackedCommands]:
        """All `commands`, packed, in order; a full one is yielded as soon as its slice is packed.

        The first command is number `start`, where an error names one.

        Raises:
            Refused: an unknown name, a wrong number of arguments, an argument that cannot be packed, or a command
                beyond COMMAND_BYTES_MAX; says which. All commands before it have been yielded then.
        """
        source = iter(commands)
        filling = _Filling()
        refused: Refused | None = None
        while refused is None and (taken := list(islice(source, SLICE_COMMANDS))):
            try:
                self._check(taken)
            except Refused:
                taken, refused = self._until_refused(taken, start)
            usual, usual_bytes = self._usual
            pack = self._pack_many if self._room * usual >= FEW * usual_bytes else self._pack_few
            refused = (yield from pack(taken, start, filling)) or refused
            start += len(taken)
        if filling.count:
            yield PackedCommands(filling.payload, filling.count)
        if refused is not None:
            raise refused

    def _pack_few(
        self, commands: list[Command], start: int, filling: _Filling
    ) -> Generator[PackedCommands, None, Refused | None]:
        """Commands of which few fill a record: they are packed one by one, then put together."""
        parts, size, count, room = [filling.payload], len(filling.payload), filling.count, self._room
        refused: Refused | None = None
        for at in range(0, len(commands), FEW_AT_ONCE):
            taken = commands[at : at + FEW_AT_ONCE]
            try:
                packed = self._pack_each(taken)
            except Refused:
                taken, refused = self._until_refused(taken, start + at)
                packed = self._pack_each(taken)
            for one in packed:
                size += len(one)
                if size > room and count:
                    self._usual = count, size - len(one)
                    yield _packed_commands((b"".join(parts), count))
                    parts, size, count = [], len(one), 0
                parts.append(one)
                count += 1
            if refused is not None:
                break
        filling.payload, filling.count = b"".join(parts), count
        return refused

    def _pack_many(
        self, commands: list[Command], start: int, filling: _Filling
    ) -> Generator[PackedCommands, None, Refused | None]:
        """Commands of which many fill a record: so many as should are packed by one call."""
        room, at, refused = self._room, 0, None
        payload, count = filling.payload, filling.count
        while at < len(commands):
            usual, usual_bytes = self._usual
            size = len(payload)
            likely = (room - size) * (usual + count) // (usual_bytes + size)
            run = commands[at : at + likely] if likely > 1 else [commands[at]]
            try:
                packed = self._pack_run(run) if likely > 1 else self._pack_single(run[0])
            except Refused:
                before, refused = self._until_refused(run, start + at)
                commands = commands[:at] + before
                continue
            if size + len(packed) <= room:
                payload, count, at = payload + packed, count + len(run), at + len(run)
                continue
            if likely > 1:
                fitting, size = self._fitting(run, packed, room - size)
                payload, count, at = payload + packed[:size], count + fitting, at + fitting
            if count:
                self._usual = count, len(payload)
                yield _packed_commands((payload, count))
                payload, count = b"", 0
            if likely <= 1:  # it begins the next record, or is larger than any
                payload, count, at = packed, 1, at + 1
            elif not fitting:
                self._usual = 1, room
        filling.payload, filling.count = payload, count
        return refused

    def pack_one(self, command: Command) -> PackedCommands:
        """The pack of commands of a single command. Raises Refused as `pack`."""
        self._check([command])
        return PackedCommands(self._pack_single(command), 1)

    def _check(self, commands: list[Command]) -> None:
        """Raise Refused if any of them is no command, or not of this machine."""
        try:
            names, sizes = set(map(_name_of, commands)), set(map(len, commands))
            plain = set(map(type, commands)) <= {tuple, list}
        except (TypeError, IndexError, KeyError):
            plain = False
        if not plain:
            raise Refused(f"{commands[0]!r:.80} is no command: a list or tuple that begins with a name")
        if len(names) == 1 or len(sizes) == 1:
            kinds = {(name, size) for name in names for size in sizes}
        else:
            kinds = set(zip(map(_name_of, commands), map(len, commands), strict=True))
        for name, size in kinds - self._known:
            check_name("command", name, size - 1, self._arities)
            self._known.add((name, size))

    def _pack_single(self, command: Command) -> bytes:
        """One checked command. Raises Refused if it cannot be sent."""
        try:
            packed: bytes = self._pack(command)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        if len(packed) > COMMAND_BYTES_MAX:
            raise Refused(f"a command packs to {len(packed)} bytes; at most {COMMAND_BYTES_MAX}")
        _check_values(packed, self._values_max)
        if not ATOMS.issuperset(map(type, command)):
            _check_decodable(packed, 1)
        return packed

    def _pack_each(self, commands: list[Command]) -> list[bytes]:
        """Checked commands, each by itself. Raises Refused if any of them cannot be sent."""
        try:
            packed: list[bytes] = list(map(self._pack, commands))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        if max(map(len, packed), default=0) > COMMAND_BYTES_MAX:
            raise Refused(f"a command packs to more than {COMMAND_BYTES_MAX} bytes")
        for one in packed:
            _check_values(one, self._values_max)
        if not ATOMS.issuperset(map(type, chain.from_iterable(commands))):
            if sum(map(len, packed)) <= COMMAND_BYTES_MAX:
                _check_decodable(b"".join(packed), len(packed))
            else:
                for one in packed:
                    _check_decodable(one, 1)
        return packed

    def _pack_run(self, commands: list[Command]) -> bytes:
        """Several checked commands, one after the other. Raises Refused if any of them cannot be sent."""
        try:
            packed: bytes = self._pack(commands)[1 if len(commands) <= FIXARRAY_MAX else 3 :]
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Refused(f"an argument cannot be sent: {error}") from None
        if len(packed) > self._values_max:
            for command in commands:
                self._pack_single(command)
        elif not _all_plain(commands, packed):
            _check_decodable(packed, len(commands))
        return packed

    def _until_refused(self, commands: list[Command], start: int) -> tuple[list[Command], Refused]:
        """The commands before the one that is to blame, and the error that names it."""
        for index, command in enumerate(commands):
            try:
                self.pack_one(command)
            except Refused as refused:
                return commands[:index], Refused(refused.reason, index=start + index)
        raise AssertionError("a run is refused for one of its commands")

    def _fitting(self, commands: list[Command], packed: bytes, room: int) -> tuple[int, int]:
        """How many of these commands, which were too many, fit in `room`, and their bytes. Most do, so from the end."""
        fitting, size = len(commands), len(packed)
        while fitting and size > room:
            fitting -= 1
            size -= len(self._pack(commands[fitting])) if fitting else size
        return fitting, size


def _check_values(packed: bytes, values_max: int) -> None:
    """Raise Refused if this command holds more values than its gateway would take."""
    if len(packed) > values_max:
        try:
            bound_values_untrusted(packed, values_max)
        except DecodeError:
            raise Refused(f"a command holds more than {values_max} values") from None


def _all_plain(commands: list[Command], packed: bytes) -> bool:
    """Whether replicas can surely decode them, by the cheaper way to tell: the bytes, unless large; else the types."""
    if len(packed) <= len(commands) * LARGE_BYTES and looks_decodable(packed, len(commands)):
        return True
    return ATOMS.issuperset(map(type, chain.from_iterable(commands)))


def _check_decodable(packed: bytes, count: int) -> None:
    """Raise Refused unless replicas can decode all: else none of their record would take effect."""
    if not looks_decodable(packed, count) and (why := why_undecodable(packed, count)) is not None:
        raise Refused(f"an argument cannot be sent: {why}")


FEED_BYTES: Final = 64 << 10  # bytes packed before the event loop gets its turn


async def packed_from(
    commands: Iterable[Command] | AsyncIterable[Command], packer: CommandPacker
) -> AsyncGenerator[list[PackedCommands], None]:
    """Packed, in the commands' order. Raises Refused as `CommandPacker.pack`."""
    if isinstance(commands, AsyncIterable):
        start = 0
        async with contextlib.aclosing(_slices(commands)) as slices:
            async for waiting in slices:
                async for batch in _fed(packer.pack(waiting, start)):
                    yield batch
                start += len(waiting)
        return
    async for batch in _fed(packer.pack(commands)):
        yield batch


async def _fed(source: Iterator[PackedCommands]) -> AsyncGenerator[list[PackedCommands], None]:
    """Packed commands in lists of about FEED_BYTES; all before a refused command come before the error."""
    batch: list[PackedCommands] = []
    size = 0
    refused: Refused | None = None
    try:
        for packed in source:
            batch.append(packed)
            size += len(packed.payload)
            if size >= FEED_BYTES:
                yield batch
                batch, size = [], 0
                await asyncio.sleep(0)
    except Refused as error:
        refused = error
    yield batch
    if refused is not None:
        raise refused


async def _slices(commands: AsyncIterable[Command]) -> AsyncGenerator[list[Command], None]:
    """Natural batching: what arrived while the last slice was on its way makes up the next one."""
    waiting: list[Command] = []
    changed, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        async for command in commands:
            waiting.append(command)
            changed.set()
            if len(waiting) >= SLICE_COMMANDS:
                room.clear()
                await room.wait()

    reader = asyncio.get_running_loop().create_task(read())
    reader.add_done_callback(lambda _: changed.set())
    try:
        while waiting or not reader.done():
            await changed.wait()
            changed.clear()
            taken = waiting[:]
            waiting.clear()
            room.set()
            if taken:
                yield taken
        reader.result()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
