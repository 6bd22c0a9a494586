"""Calls that wait for records: one command's, or a whole batch's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from mcast.client.packing import Parcel
from mcast.client.receipts import Receipt, Receipts, RecordResult
from mcast.errors import Error, NotSent, Unknown


class Entry:
    """One parcel on its way: queued, then written as (part of) a numbered record, then answered or given up."""

    __slots__ = ("call", "given_up", "parcel", "slot", "written")

    def __init__(self, parcel: Parcel, call: Call, slot: int) -> None:
        self.parcel = parcel
        self.call = call
        self.slot = slot
        self.written = False
        self.given_up = False


class Call(Protocol):
    """Who waits for entries."""

    mergeable: bool
    """Whether its parcels may share a record with other calls' parcels."""

    def answered(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """The record that holds the entry's commands from `offset` on was answered."""

    def failed(self, entry: Entry, error: Error) -> None:
        """The entry will never be answered."""


class SingleCall:
    """One command's call."""

    mergeable = True

    def __init__(self, parcel: Parcel) -> None:
        self.future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.entry = Entry(parcel, self, 0)

    def answered(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """Hand the receipt to the waiting task."""
        if not self.future.done():
            self.future.set_result(result.receipt(offset))

    def failed(self, entry: Entry, error: Error) -> None:
        """Raise the error in the waiting task."""
        if not self.future.done():
            self.future.set_exception(error)

    def expire(self, why: Callable[[], str]) -> None:
        """The deadline is over; `why` says what was tried."""
        self.entry.given_up = True
        if self.entry.written:
            self.failed(self.entry, Unknown(f"no answer in time, the command may or may not have happened: {why()}"))
        else:
            self.failed(self.entry, NotSent(f"no node took the command in time: {why()}"))


class BatchCall:
    """A batch's call: done when every expected record was answered, or when none was for the time allowed."""

    mergeable = False

    def __init__(self, receipts: Receipts, on_progress: Callable[[Receipts], None] | None = None) -> None:
        self.receipts = receipts
        self.entries: dict[int, Entry] = {}
        self.progress = 0
        self.error: Error | None = None
        self._on_progress = on_progress
        self._changed = asyncio.Event()

    def expect(self, parcel: Parcel) -> Entry:
        """The entry of one more parcel."""
        entry = Entry(parcel, self, self.receipts.expect(parcel.count))
        self.entries[entry.slot] = entry
        return entry

    def answered(self, entry: Entry, result: RecordResult, offset: int) -> None:
        """Keep the record's result."""
        assert offset == 0, "a batch's record is its own"
        if self.entries.pop(entry.slot, None) is None or self.error is not None:
            return
        try:
            self.receipts.settle(entry.slot, result)
        except Error as error:
            self.failed(entry, error)
            return
        self.progress += 1
        if self._on_progress is not None:
            self._on_progress(self.receipts)
        self._changed.set()

    def failed(self, entry: Entry, error: Error) -> None:
        """The batch as a whole fails; what is known stays known."""
        self.entries.pop(entry.slot, None)
        if self.error is None:
            self.error = error if type(error) is not Unknown else Unknown(str(error), self.receipts)
        self._changed.set()

    async def wait(self, backlog: Callable[[], bool], timeout_s: float, why: Callable[[], str]) -> None:
        """Until `backlog()` is false, at most `timeout_s` after the last answer.

        Raises:
            NotSent: no command of the batch was ever written.
            Unknown: with the receipts, when some were.
        """
        while self.error is None and backlog():
            before = self.progress
            self._changed.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
            except TimeoutError:
                if self.progress == before and self.error is None:
                    self.error = self._expired(why)
        if self.error is not None:
            self.give_up()
            raise self.error

    def give_up(self) -> None:
        """Nobody waits for the rest any more."""
        for entry in self.entries.values():
            entry.given_up = True

    def _expired(self, why: Callable[[], str]) -> Error:
        if not self.receipts.known and not any(entry.written for entry in self.entries.values()):
            return NotSent(f"no node took any of the commands in time: {why()}")
        known = f"{self.receipts.known} of {self.receipts.count} outcomes are known"
        return Unknown(f"{known}, the others may or may not happen: {why()}", self.receipts)
