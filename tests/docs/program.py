"""A program as a user writes it: a machine, an asynchronous and a synchronous client, a node. For mypy --strict."""

from __future__ import annotations

import asyncio
import logging

import mcast

log = logging.getLogger("library")


class Library(mcast.StateMachine):
    """Books, and who has them."""

    def __init__(self) -> None:
        self.lent: dict[str, str] = {}

    @mcast.command
    def lend(self, ctx: mcast.Context, book: str, reader: str) -> int:
        """Give a book to a reader; when, in seconds since 1970."""
        if book in self.lent:
            raise mcast.Rejected(f"{self.lent[book]} has it")
        self.lent[book] = reader
        return ctx.time // 10**9

    @mcast.command
    def give_back(self, ctx: mcast.Context, book: str) -> bool:
        """Whether it was lent."""
        return self.lent.pop(book, None) is not None

    @mcast.query
    def lent_to(self, reader: str) -> list[str]:
        """The reader's books."""
        return sorted(book for book, has_it in self.lent.items() if has_it == reader)


async def lend(path: str) -> list[str]:
    """Lend two books, one of them twice; what Ann has then."""
    async with mcast.connect(path, at="n2") as client:
        receipt: mcast.Receipt = await client.submit("lend", "Emma", "ann")
        assert receipt.outcome == "ok"
        receipts = await client.submit_many([("lend", "Ulysses", "ann"), ("lend", "Emma", "bob")])
        refused = [one.error for one in receipts if one.outcome == "rejected"]
        assert refused == ["ann has it"]
        level: mcast.Consistency = "linearizable"
        answer = await client.query("lent_to", "ann", consistency=level)
        books: list[str] = answer.value
    return books


async def lend_for_sure(client: mcast.Client, book: str, reader: str) -> mcast.Receipt | None:
    """Lend a book, and ask again where it is not known whether that has happened; None if it has not."""
    try:
        return await client.submit("lend", book, reader, timeout=1.0)
    except mcast.Unknown as unknown:
        known = [one for one in unknown.receipts if one is not None]
        log.warning("%s known so far", len(known))
        settled = await client.resolve(unknown)
        return settled if isinstance(settled, mcast.Receipt) else settled[0]
    except (mcast.NotSent, mcast.Refused) as error:
        log.error("not lent: %s", error)
        return None


async def watch(client: mcast.Client) -> list[str]:
    """The names of the next two events."""
    names: list[str] = []
    async with client.subscribe(from_seq="now") as events:
        async for event in events:
            names.append(event.name)
            if len(names) == 2:
                break
    return names


def look(path: str) -> tuple[str | None, int]:
    """The first node's state, and how many commands the machine and its queries have; without an event loop."""
    with mcast.connect_sync(path) as client:
        status: mcast.StatusDocument = client.status()
        node: mcast.NodeStatus = status["nodes"][0]
        lost = [gaps.get("lost", 0) for gaps in client.gaps()["nodes"]]
        assert all(count >= 0 for count in lost)
        description: mcast.MachineDescription = client.describe()
        handlers = description["commands"] + description["queries"]
        for event in client.subscribe():
            assert event.name == "lend"
            break
        return node["state"], len(handlers)


async def serve(path: str, stopped: asyncio.Event) -> None:
    """A node inside this program."""

    def heard(notice: mcast.NodeNotice) -> None:
        log.info("%s: %s", notice.kind, notice.text)
        if notice.kind == "halted":
            stopped.set()

    node = mcast.Node(path)
    node.on_notice(heard)
    async with node:
        await stopped.wait()


if __name__ == "__main__":
    print(asyncio.run(lend("lab.toml")), look("lab.toml"))
