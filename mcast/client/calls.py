"""Calls that wait for records: one command's, or a whole batch's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from mcast.client.packing import PackedCommands
from mcast.client.receipts import Receipt, Receipts, RecordResult
from mcast.clock import Alarm
from mcast.errors import DecodeError, Error, NotSent, Unknown


class Entry:
    """Packed commands on their way: queued, then written as (part of) a numbered record, then answered or given up."""

    __slots__ = ("call", "count", "given_up", "payload", "request", "slot")

    def __init__(self, packed: PackedCommands, call: Call, slot: int) -> None:
        self.payload, self.count = packed
        self.call = call
        self.slot = slot
        self.request = 0
        """The number of the record it was written in; 0 before that."""
        self.given_up = False

    @property
    def is_numbered(self) -> bool:
        """Whether it was numbered, and so may happen."""
        return self.request > 0


class Call(Protocol):
    """A call that waits for the answers to entries."""

    mergeable: bool
    """Whether its packed commands may share a record with other calls' packed commands."""

    def on_answer(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """The record that holds the entry's commands from `offset` on was answered."""

    def on_answers(self, answers: Sequence[tuple[Entry, RecordResult]]) -> None:
        """As `on_answer`, for entries with a record each."""
        for entry, result in answers:
            self.on_answer(entry, result, 0)

    def on_failure(self, entry: Entry, error: Error) -> None:
        """The entry will never be answered."""


class SingleCall(Call):
    """One command's call. Its fate may become known after its caller has stopped waiting."""

    mergeable = True

    def __init__(self, packed: PackedCommands) -> None:
        self.future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.entry = Entry(packed, self, 0)
        self._fate: Receipt | Error | None = None
        self._asked_again: asyncio.Future[None] | None = None

    def on_answer(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """Hand the receipt to the waiting task."""
        receipt = result.receipt(offset)
        if not self.future.done():
            self.future.set_result(receipt)
        self._set_fate(receipt)

    def on_failure(self, entry: Entry, error: Error) -> None:
        """Raise the error in the waiting task."""
        if not self.future.done():
            self.future.set_exception(error)
        self._set_fate(error)

    def expire(self, why: Callable[[], str]) -> None:
        """The deadline is over; `why` says what was tried."""
        self.entry.given_up = True
        if not self.entry.is_numbered:
            self.on_failure(self.entry, NotSent(f"no node took the command in time: {why()}"))
        elif not self.future.done():
            words = f"no answer in time, the command may or may not have happened: {why()}"
            self.future.set_exception(Unknown(words, handle=self))

    async def resolve(self, timeout_s: float, why: Callable[[], str]) -> Receipt:
        """The command's receipt, once its number is answered.

        Raises:
            NotSent: it did not happen and never will. Unknown: no answer in time, or nobody can tell any more.
        """
        if self._fate is None:
            if self._asked_again is None or self._asked_again.done():
                self._asked_again = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._asked_again], timeout=timeout_s)
        if self._fate is None:
            raise Unknown(f"still no answer, the command may or may not have happened: {why()}", handle=self)
        if isinstance(self._fate, Error):
            raise self._fate
        return self._fate

    def _set_fate(self, fate: Receipt | Error) -> None:
        self._fate = fate
        if self._asked_again is not None and not self._asked_again.done():
            self._asked_again.set_result(None)


class Deadlines:
    """When single calls expire, by one timer for all of them. `why` says what was tried."""

    def __init__(self, why: Callable[[], str]) -> None:
        self._why = why
        self._due: dict[SingleCall, float] = {}
        self._alarm = Alarm(self._expire)

    def set(self, call: SingleCall, timeout_s: float) -> None:
        """Have the call expire unless it is forgotten before."""
        due = self._due[call] = asyncio.get_running_loop().time() + timeout_s
        self._alarm.set(due)

    def forget(self, call: SingleCall) -> None:
        """Forget a call: its caller waits no more."""
        self._due.pop(call, None)

    def _expire(self, now: float) -> float:
        for call in [call for call, due in self._due.items() if due <= now]:
            del self._due[call]
            call.expire(self._why)
        return min(self._due.values(), default=float("inf"))


class BatchCall:
    """A batch's call: done when every expected record was answered, or when none was for the time allowed.

    What is answered after it has failed is kept aside, for whoever resolves the error.
    """

    mergeable = False

    def __init__(self, receipts: Receipts, on_progress: Callable[[Receipts], None] | None = None) -> None:
        self.receipts = receipts
        self.entries: dict[int, Entry] = {}
        self.progress = 0
        self.error: Error | None = None
        self._raised: BaseException | None = None
        """What the caller's own callback raised: it ends the call, and does not concern the connection."""
        self._unreported = 0
        """Records that may have taken effect, but whose results are no longer kept anywhere."""
        self._late: list[tuple[Entry, RecordResult]] = []
        self._on_progress = on_progress
        self._changed = asyncio.Event()

    def expect(self, batch: Sequence[PackedCommands]) -> list[Entry]:
        """The entries of more packed commands."""
        first = self.receipts.expect([packed.count for packed in batch])
        entries = [Entry(packed, self, slot) for slot, packed in enumerate(batch, first)]
        self.entries.update(enumerate(entries, first))
        return entries

    def on_answer(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """Keep the record's result."""
        assert offset == 0, "a batch's record is its own"
        self.on_answers([(entry, result)])

    def on_answers(self, answers: Sequence[tuple[Entry, RecordResult]]) -> None:
        """Keep the records' results."""
        entries = self.entries
        awaited = [answer for answer in answers if entries.pop(answer[0].slot, None) is not None]
        if not awaited:
            return
        self._changed.set()
        if self.error is not None or self._raised is not None:
            self._late += awaited
            return
        self._keep(awaited)
        if self._on_progress is not None and self._raised is None:
            try:
                self._on_progress(self.receipts)
            except BaseException as error:
                self._end_by(error)

    def on_failure(self, entry: Entry, error: Error) -> None:
        """The batch as a whole fails; what is known stays known, what was not numbered never will be."""
        self.entries.pop(entry.slot, None)
        self._unreported += isinstance(error, Unknown)
        if self.error is None:
            self.error = error
            self.give_up()
        self._changed.set()

    async def wait(self, backlog: Callable[[], bool], timeout_s: float, why: Callable[[], str]) -> None:
        """Until `backlog()` is false, at most `timeout_s` after the last answer.

        Raises:
            NotSent, Refused: none of the commands happened, nor will. Unknown: with the receipts, when some may have.
            Whatever a callback of the caller's raised.
        """
        while self.error is None and self._raised is None and backlog():
            before = self.progress
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                if self.progress == before and self.error is None:
                    self.error = NotSent(f"no answer in time: {why()}")
        if self._raised is not None:
            raise self._raised
        if self.error is not None:
            self.give_up()
            raise self._verdict(self.error)

    async def resolve(self, timeout_s: float, why: Callable[[], str]) -> Receipts:
        """The receipts, once every record that was numbered is answered: a None left in them did not happen.

        Raises:
            Unknown: not all within `timeout_s`, or nobody can tell any more. DecodeError: an answer that is none.
            Whatever a callback of the caller's raised.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._is_open():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                break
        late, self._late = self._late, []
        self._keep(late)
        if self._raised is not None:
            raise self._raised
        if isinstance(self.error, DecodeError):
            raise self.error
        if self._is_open() or self._unreported:
            raise self._verdict(NotSent(f"no answer: {why()}" if self._is_open() else "their session is over"))
        return self.receipts

    def give_up(self) -> None:
        """Give up the entries that are not answered yet."""
        for entry in self.entries.values():
            entry.given_up = True

    def _keep(self, answers: Sequence[tuple[Entry, RecordResult]]) -> None:
        try:
            self.receipts.take_answers([(entry.slot, result) for entry, result in answers])
        except DecodeError as error:
            self.error = error
            self.give_up()
            return
        except BaseException as error:
            self._end_by(error)
            return
        self.progress += len(answers)

    def _end_by(self, raised: BaseException) -> None:
        self._raised = raised
        self.give_up()

    def _is_open(self) -> bool:
        return any(entry.is_numbered for entry in self.entries.values())

    def _verdict(self, error: Error) -> Error:
        """The error for the batch as a whole: Unknown, unless none of it happened or an answer could not be decoded."""
        if isinstance(error, DecodeError):
            return error
        is_open = self._is_open()
        if not (is_open or self._late or self._unreported or self.receipts.known):
            return NotSent(f"no node took any of the commands: {error}") if isinstance(error, NotSent) else error
        known = f"{self.receipts.known} of {self.receipts.count} outcomes are known, the others may or may not happen"
        return Unknown(f"{known}: {error}", self.receipts, None if self._unreported and not is_open else self)
