"""Machines for the tests of `mcast.testing`: one honest, one that depends on hashing."""

from mcast.machine.api import Context, Rejected, StateMachine, command, query


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
