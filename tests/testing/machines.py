"""Machines for the tests of `mcast.testing`: honest ones, one that depends on hashing, one with a wrong run handler."""

from collections.abc import Generator
from typing import Any

from mcast.machine.api import Context, Rejected, Run, StateMachine, command, query


class Accounts(StateMachine):
    version = 1

    def __init__(self) -> None:
        self.balance: dict[str, int] = {}

    @command
    def deposit(self, ctx: Context, account: str, amount: int) -> int:
        self.balance[account] = self.balance.get(account, 0) + amount
        return self.balance[account]

    @command
    def transfer(self, ctx: Context, source: str, target: str, amount: int) -> int:
        if self.balance.get(source, 0) < amount:
            raise Rejected("insufficient funds")
        self.balance[source] -= amount
        return self.deposit(ctx, target, amount)

    @query
    def balance_of(self, account: str) -> int:
        return self.balance.get(account, 0)


class Hashing(StateMachine):
    version = 1

    def __init__(self) -> None:
        self.seen: list[str] = []

    @command
    def note(self, ctx: Context, word: str) -> str:
        self.seen = list({*self.seen, word})
        return self.seen[0]

    @query
    def first(self) -> str:
        return self.seen[0]


class Poll(StateMachine):
    version = 1

    def __init__(self) -> None:
        self.votes: dict[str, int] = {}

    @command
    def vote(self, ctx: Context, name: str, number: int = 1) -> int:
        if name == "odd":
            raise Rejected("odd")
        self.votes[name] = self.votes.get(name, 0) + number
        return self.votes[name]

    @vote.run
    def vote_all(self, run: Run, names: tuple[str, ...], numbers: tuple[int, ...]) -> Generator[int, None, Any]:
        if "odd" in names:
            return NotImplemented
        for name, number in zip(names, numbers, strict=True):
            self.votes[name] = self.votes.get(name, 0) + number
            yield self.votes[name]
        return None


class Hasty(Poll):
    @Poll.vote.run
    def vote_all(self, run: Run, names: tuple[str, ...], numbers: tuple[int, ...]) -> Generator[int, None, Any]:
        """Takes odd votes too."""
        for name, number in zip(names, numbers, strict=True):
            self.votes[name] = self.votes.get(name, 0) + number
            yield self.votes[name]


class Typo(StateMachine):
    """One of its commands never works."""

    def __init__(self) -> None:
        self.stock = 0

    @command
    def stock_up(self, ctx: Context, count: int) -> int:
        self.stock += count
        return self.stock

    @command
    def sell(self, ctx: Context, count: int) -> int:
        self.stok -= count  # type: ignore[attr-defined]
        return self.stock
