"""The client without an event loop, against real gateways on a fake cluster: calls, threads, Ctrl-C, forks, closing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mcast.client.synchronous import SyncClient, connect_sync
from mcast.config import Config
from mcast.errors import ConfigError, Error, NotSent, Refused, Unknown
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {"asyncio": None}
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


class Served:
    """A fake cluster on a loop in a thread of its own: this test's thread is the client's user's."""

    def __init__(self, folder: Path) -> None:
        self.cluster = FakeCluster(folder, KeyValue)
        self.config: Config = self.cluster.config
        self.loop: asyncio.AbstractEventLoop
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        self._started.wait()

    async def _serve(self) -> None:
        self.loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self.cluster) as self.gateways:
            self._started.set()
            await self._ended.wait()

    def run(self, act: Callable[[], Any]) -> Any:
        async def acted() -> Any:
            return act()

        return asyncio.run_coroutine_threadsafe(acted(), self.loop).result(5)

    def subscribers(self) -> int:
        return sum(map(len, (gateway._subscriptions for gateway in self.gateways.values())))

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(5)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    one = Served(tmp_path)
    yield one
    one.end()


@pytest.fixture(params=list(LOOPS))
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[SyncClient]:
    with connect_sync(served.config, at="n2", loop_factory=LOOPS[request.param]) as connected:
        yield connected


def until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.002)


def client_threads() -> int:
    return sum(thread.name == "mcast-client" for thread in threading.enumerate())


def test_calls_as_of_the_other_client(client: SyncClient) -> None:
    assert (client.node, client.timeout) == ("n2", 5)
    assert client.submit("incr", "k", 5).value == 5
    receipts = client.submit_many(("incr", "k") for _ in range(3))
    assert [receipt.value for receipt in receipts if receipt] == [6, 7, 8]
    assert client.query("get", "k").value == 8
    assert [answer.value for answer in client.query_many([("get", "k"), ("size",)])] == [8, 1]
    assert client.status()["nodes"][1]["id"] == "n2" and len(client.gaps()["nodes"]) == 3
    with pytest.raises(Refused, match="unknown command"):
        client.submit("nosuch")
    with pytest.raises(Refused, match="allow_faults"):
        client.fault("n1", "loss=1%")
    with pytest.raises(Refused, match="keeps its role"):
        client.handover("n2")


def test_every_method_of_the_one_is_there_in_the_other() -> None:
    from mcast.client.client import Client

    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public - set(vars(SyncClient)) == {"leave_to_parent", "timeout_s"}


def test_a_stream_is_read_in_the_caller_s_thread(client: SyncClient) -> None:
    here, callers, reported = threading.current_thread(), set(), []

    def commands() -> Iterator[tuple[str, str]]:
        for number in range(10_000):
            callers.add(threading.current_thread())
            if number == 5_000:  # what blocks here blocks nothing else
                assert client.query("size").value <= 1
            yield "incr", "k"

    receipts = client.submit_stream(commands(), keep=False, on_progress=lambda so_far: reported.append(so_far.known))
    assert (receipts.count, receipts.ok, callers, reported[-1]) == (10_000, 10_000, {here}, 10_000)
    with pytest.raises(ZeroDivisionError):
        client.submit_stream(("incr", str(1 // (3 - number))) for number in range(10))
    with pytest.raises(Refused, match="command 2"):
        client.submit_stream([("incr", "k")] * 2 + [("nosuch",)] + [("incr", "k")] * 100_000)
    assert client.query("get", "k").value >= 10_002


def test_events_are_an_iterator(client: SyncClient, served: Served) -> None:
    client.submit_many([("incr", "k")] * 100)
    with client.subscribe() as events:
        assert [next(events).value for _ in range(100)] == list(range(1, 101))
        client.submit("incr", "k")
        assert next(events).value == 101
    assert list(events) == [], "closed"
    for event in client.subscribe(from_seq=50):
        assert event.seq == 50
        break
    gc.collect()
    until(lambda: not served.run(served.subscribers))
    now = client.subscribe(from_seq="now")
    client.submit("incr", "k")
    assert next(now).value == 102
    with pytest.raises(Refused, match="event number"):
        client.subscribe(from_seq=0)


def test_a_thread_that_waits_for_events_is_woken_by_who_closes_them(client: SyncClient, served: Served) -> None:
    with ThreadPoolExecutor() as pool:
        events = client.subscribe(from_seq="now")
        waiting = pool.submit(list, events)
        until(lambda: events._taking is not None)
        events.close()
        assert waiting.result(5) == []
        until(lambda: not served.run(served.subscribers))
        events.close()
        again = client.subscribe(from_seq="now")
        waiting = pool.submit(list, again)
        until(lambda: again._taking is not None)
        client.close()
        with pytest.raises(Error, match="the client was closed"):
            waiting.result(5)


def test_many_threads_share_one(client: SyncClient) -> None:
    def work(number: int) -> list[int]:
        own = [client.submit("incr", "shared").value for _ in range(20)]
        assert client.query("get", "shared").value >= own[-1]
        return own

    with ThreadPoolExecutor(8) as pool:
        values = [value for own in pool.map(work, range(8)) for value in own]
    assert sorted(values) == list(range(1, 161))


def test_closing_ends_the_calls_of_other_threads(served: Served) -> None:
    client = connect_sync(served.config, timeout=60)
    for shell in served.cluster.shells.values():
        shell.deaf = True
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(client.submit, "incr", "k") for _ in range(5)]
        until(lambda: client._client._session.is_busy)
        began = time.monotonic()
        client.close()
        client.close()
        for one in waiting:
            with pytest.raises((Unknown, Refused)):
                one.result(5)
        assert time.monotonic() - began < 3
    with pytest.raises(Refused, match="closed; connect another one"):
        client.submit("incr", "k")
    assert not client_threads()


def test_no_call_is_forgotten_by_a_client_that_closes_meanwhile(served: Served) -> None:
    for _ in range(20):
        client = connect_sync(served.config)

        def work(client: SyncClient = client) -> None:
            with contextlib.suppress(Refused, Unknown):
                for _ in range(1_000_000):
                    client.submit("incr", "k")

        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work) for _ in range(4)]
            time.sleep(0.01)
            client.close()
            for one in working:
                one.result(5)


def test_one_that_cannot_connect_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    nobody = FakeCluster(tmp_path, KeyValue).config
    with pytest.raises(NotSent, match=r"no node answered within 0\.2 s"):
        connect_sync(nobody, timeout=0.2)
    with pytest.raises(ConfigError, match="n9"):
        connect_sync(nobody, at="n9")
    with pytest.raises(ZeroDivisionError):
        connect_sync(nobody, loop_factory=lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    until(lambda: not client_threads())


def test_one_that_is_dropped_is_closed(served: Served) -> None:
    client = connect_sync(served.config)
    client.submit("incr", "k")
    del client
    gc.collect()
    until(lambda: not client_threads())


def test_its_own_thread_is_refused_instead_of_waiting_for_itself(client: SyncClient) -> None:
    with pytest.raises(Refused, match="the client's own thread"):
        client.submit_stream([("incr", "k")], on_progress=lambda receipts: client.query("size") and None)
    assert client.query("get", "k").value == 1


def test_ctrl_c_ends_the_call_and_not_the_client(client: SyncClient, served: Served) -> None:
    client.submit("incr", "k")
    for shell in served.cluster.shells.values():
        shell.deaf = True

    def interrupt() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.submit("incr", "k", timeout=60)
    thread.join()
    assert time.monotonic() - began < 5
    for shell in served.cluster.shells.values():
        shell.deaf = False
    events = client.subscribe(from_seq="now")
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        next(events)
    thread.join()
    assert client.query("get", "k", consistency="any").value == 2
    client.submit("set", "other", 1)
    assert next(events).name == "set", "it goes on where it was"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_may_connect_itself(client: SyncClient, served: Served) -> None:
    client.submit("incr", "k")
    events = client.subscribe()
    assert next(events).value == 1
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        words = []
        for call in (lambda: client.submit("incr", "k"), lambda: next(events), lambda: client.subscribe()):
            try:
                call()
            except Refused as refused:
                words.append(str(refused)[:40])
        client.close()
        events.close()
        with connect_sync(served.config) as own:
            words.append(own.submit("incr", "k").value)
        os.write(writing, repr(words).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as reported:
        assert reported.read() == repr(["this client is the parent process's, whic"[:40]] * 3 + [2])
    os.waitpid(child, 0)
    assert client.submit("incr", "k").value == 3
    assert [next(events).value for _ in range(2)] == [2, 3]


def test_a_program_that_closes_nothing_ends_at_once(served: Served, tmp_path: Path) -> None:
    config = tmp_path / "lab.toml"
    nodes = "".join(f'[[node]]\nid = "{node.id}"\naddress = "{node.address}"\n' for node in served.config.nodes)
    config.write_text(f'[cluster]\nname = "lab"\ngroup = "239.77.7.1"\nport = 7700\ninterface = "127.0.0.1"\n{nodes}')
    program = (
        "import mcast, sys\nclient = mcast.connect_sync(sys.argv[1])\nevents = client.subscribe()\n"
        "print(client.submit('incr', 'k').value, next(events).value)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(config)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "1 1\n", "")
    until(lambda: not served.run(served.subscribers))
