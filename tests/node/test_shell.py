import asyncio
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgpack
import pytest

import mcast
from mcast.cli.exits import exit_code_of
from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError, EnvironmentProblem, Refused
from mcast.machine.engine import Applied
from mcast.machine.kv import KeyValue
from mcast.net.interfaces import Interface
from mcast.net.memory import Hub
from mcast.node import applying, place, setup
from mcast.node.shell import Shell
from mcast.protocol import driver
from mcast.protocol.effects import Notice, SequencerReady
from mcast.storage.files import RealFiles
from mcast.storage.kernelsync import KernelSync
from mcast.wire.records import RecordKind, encode_record


def config(folder: Path, nodes: int = 1, **changes: Any) -> Config:
    every = tuple(NodeConfig(id=f"n{n}", address=f"127.0.0.1:{7710 + n}") for n in range(1, nodes + 1))
    values: dict[str, Any] = {"name": "lab", "nodes": every, "folder": folder, "data_dir": folder / "data"}
    return Config(**values | {"sync": "os"} | changes)


class Watch:
    """Follows one shell: waits for what it tells."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.applied: list[Applied] = []
        self.notices: list[Notice] = []
        self._changed = asyncio.Event()
        shell.on_applied.append(self._hear_applied)
        shell.on_notice.append(self._hear_notice)

    def _hear_applied(self, applied: list[Applied]) -> None:
        self.applied += applied
        self._changed.set()

    def _hear_notice(self, notice: Notice) -> None:
        self.notices.append(notice)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_sequencer(self) -> None:
        await self.until(lambda: any(isinstance(notice, SequencerReady) for notice in self.notices))


StartShell = Callable[..., Any]


@pytest.fixture
async def running() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def start(running: AsyncExitStack, config: Config, node: str = "n1", **options: Any) -> Watch:
    shell = Shell(config, node, hub=options.pop("hub", None) or Hub(), **options)
    watch = Watch(shell)
    await shell.start()
    running.push_async_callback(shell.stop)
    return watch


async def open_session(watch: Watch) -> int:
    nonce = bytes(range(16))
    watch.shell.engine.watch_nonce(nonce)
    assert watch.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, nonce),)])
    await watch.until(lambda: any(one.kind == "opened" for one in watch.applied))
    session = watch.applied[-1].session
    watch.shell.engine.watch(session)
    return session


def commands(session: int, request: int, batch: Sequence[Sequence[object]]) -> tuple[bytes, ...]:
    payload = b"".join(map(msgpack.packb, batch))
    return (encode_record(RecordKind.COMMANDS, len(batch), session, request, 1, payload),)


async def test_one_member_alone_is_a_cluster(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, 1, [["set", "k", 5]])])
    await watch.until(lambda: any(one.kind == "result" for one in watch.applied))
    assert watch.shell.engine.query("get", ["k"]) == 5


async def test_three_nodes_hold_the_same_log_and_compute_the_same(tmp_path: Path, running: AsyncExitStack) -> None:
    hub, lab = Hub(), config(tmp_path, 3)
    every = [await start(running, lab, f"n{n}", hub=hub, fault="loss=10%,dup=5%,reorder=5%,seed=1") for n in (1, 2, 3)]
    sequencer = every[0]
    await sequencer.until_sequencer()
    session = await open_session(sequencer)
    for request in range(1, 201):
        sequencer.shell.submit([commands(session, request, [["incr", "k", 1]])])
        if request % 20 == 0:
            await asyncio.sleep(0)
    await sequencer.until(lambda: len(sequencer.applied) == 201)
    last = sequencer.shell.engine.applied_seq
    for watch in every:
        await watch.until(lambda watch=watch: watch.shell.engine.applied_seq >= last)  # type: ignore[misc]
        assert watch.shell.engine.query("get", ["k"]) == 200
        assert watch.shell.status()["state"] == "live"
        gaps = watch.shell.gaps()
        assert gaps["lost"] == gaps["injected"]["lost"] == gaps["repaired"]
    assert len({(watch.shell.engine.chain, watch.shell.engine.result_chain) for watch in every}) == 1


async def test_a_restarted_node_replays_its_journal(tmp_path: Path, running: AsyncExitStack) -> None:
    lab = config(tmp_path)
    watch = await start(running, lab)
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, n, [["set", f"k{n}", n]]) for n in range(1, 50)])
    await watch.until(lambda: len(watch.applied) == 50)
    chain = watch.shell.engine.chain
    await watch.shell.stop()
    again = await start(running, lab)
    await again.until_sequencer()
    assert again.shell.engine.query("get", ["k49"]) == 49
    assert again.shell.replica.last_seq > watch.shell.engine.applied_seq
    frames = again.shell.store.read(watch.shell.engine.applied_seq, 1)
    assert frames[0].chain == chain


async def test_what_one_turn_submits_leaves_in_one_send(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    session = await open_session(watch)
    streamed: list[int] = []
    stream = watch.shell.transport.stream
    watch.shell.transport.stream = lambda frames: (streamed.append(len(frames)), stream(frames))  # type: ignore
    for request in range(1, 31):
        watch.shell.submit([commands(session, request, [["incr", "k", 1]])])
    await watch.until(lambda: len(watch.applied) == 31)
    assert sum(streamed) < 5, "thirty small records fill two frames"


async def test_what_comes_alone_is_numbered_and_streamed_in_the_same_turn(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    session = await open_session(watch)
    for request in (1, 2):
        await asyncio.sleep(0.01)
        before = watch.shell.engine.applied_seq
        watch.shell.submit([commands(session, request, [["incr", "k", 1]])])
        assert watch.shell.engine.applied_seq == before + 1


async def test_what_a_callback_submits_waits_for_its_end(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    session = await open_session(watch)
    during: list[int] = []

    def applied(applied: list[Applied]) -> None:
        if not during:
            during.append(watch.shell.engine.applied_seq)
            watch.shell.submit([commands(session, 2, [["incr", "k", 1]])])
            during.append(watch.shell.engine.applied_seq)

    watch.shell.on_applied.append(applied)
    await asyncio.sleep(0.01)
    watch.shell.submit([commands(session, 1, [["incr", "k", 1]])])
    await watch.until(lambda: watch.shell.engine.applied_seq > during[0])
    assert during[0] == during[1]


async def test_a_node_that_is_not_the_sequencer_takes_nothing(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path, 3), "n2")
    assert not watch.shell.submit([(b"record",)])
    assert watch.shell.status()["state"] == "starting"


@pytest.mark.parametrize("sync", ["always", "os"])
async def test_both_sync_modes_acknowledge(tmp_path: Path, running: AsyncExitStack, sync: str) -> None:
    watch = await start(running, config(tmp_path, sync=sync))
    await watch.until_sequencer()
    assert await open_session(watch) > 0


async def test_long_applying_is_sliced_between_turns_of_the_loop(
    tmp_path: Path, running: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applying, "SLICE_S", 0.0)
    monkeypatch.setattr(applying, "BURST_FRAMES", 1)
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, n, [["set", f"k{n}", "x" * 1_000]]) for n in range(1, 41)])
    backlog = []
    while len(watch.applied) < 41:
        backlog.append(watch.shell._queue.bytes)
        await asyncio.sleep(0)
        assert len(backlog) < 10_000
    assert len({size for size in backlog if size}) > 20
    assert [one.request for one in watch.applied[1:]] == list(range(1, 41))
    assert watch.shell._queue.bytes == 0


class Deep(KeyValue):
    @mcast.command
    def dive(self, ctx: mcast.Context) -> None:
        self.dive(ctx)


async def test_a_machine_that_overflows_the_stack_halts_its_node_which_says_why(
    tmp_path: Path, running: AsyncExitStack
) -> None:
    watch = await start(running, config(tmp_path), machine=Deep())
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, 1, [["dive"]])])
    async with asyncio.timeout(5):
        await watch.shell.stopped.wait()
    status = watch.shell.status()
    assert status["state"] == "halted" and "RecursionError" in status["reason"]
    assert not watch.shell.submit([commands(session, 2, [["dive"]])])


class Hungry(KeyValue):
    hungry = False

    @mcast.command
    def eat(self, ctx: mcast.Context) -> None:
        if self.hungry:
            raise MemoryError


async def test_a_journal_that_cannot_be_replayed_is_told_with_what_to_do(
    tmp_path: Path, running: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = await start(running, config(tmp_path), machine=Hungry())
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, 1, [["eat"]])])
    await watch.until(lambda: len(watch.applied) == 2)
    watch.shell.submit([commands(session, 2, [["set", "k", 1]])])  # its frame says that the one before is committed
    await watch.until(lambda: len(watch.applied) == 3)
    await watch.shell.stop()
    monkeypatch.setattr(Hungry, "hungry", True)
    for _ in range(2):  # nothing stays locked or open
        with pytest.raises(EnvironmentProblem, match=r"n1 cannot replay its journal in .*n1.*MemoryError") as caught:
            await Shell(config(tmp_path), "n1", hub=Hub(), machine=Hungry()).open()
    assert exit_code_of(caught.value) == 4 and "\n" not in str(caught.value)


async def test_whoever_wants_to_know_hears_of_the_halt_once(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path), machine=Deep())
    heard: list[str | None] = []
    watch.shell.on_halted.append(lambda: heard.append(watch.shell.halted))
    await watch.until_sequencer()
    session = await open_session(watch)
    watch.shell.submit([commands(session, 1, [["dive"]])])
    async with asyncio.timeout(5):
        await watch.shell.stopped.wait()
    assert len(heard) == 1 and heard[0] is not None and "RecursionError" in heard[0]


async def test_what_the_protocol_halts_for_halts_the_node(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()
    watch.shell.replica._core.halt("a committed event is gone")
    watch.shell.on_transfer_failed(1)
    async with asyncio.timeout(5):
        await watch.shell.stopped.wait()
    status = watch.shell.status()
    assert (status["state"], status["reason"]) == ("halted", "a committed event is gone")


async def test_a_callback_that_raises_halts_the_node(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path))
    await watch.until_sequencer()

    def broken(applied: list[Applied]) -> None:
        raise ValueError("a bug")

    watch.shell.on_applied.append(broken)
    watch.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
    async with asyncio.timeout(5):
        await watch.shell.stopped.wait()
    assert watch.shell.halted == "a bug: ValueError: a bug"


class FailingFiles(RealFiles):
    """A disk that can be made to refuse; `kernel`: where the kernel may sync by itself."""

    write_errno = 0
    sync_errno = 0

    def __init__(self, *, kernel: bool = False) -> None:
        super().__init__()
        self.kernel = kernel

    def background_sync(self) -> KernelSync | None:
        kernel = super().background_sync() if self.kernel else None
        if kernel is not None:
            begin = kernel.begin

            def begin_or_fail(what: int | str) -> bool:
                if self.sync_errno:
                    raise OSError(self.sync_errno, "refused on purpose")
                return begin(what)

            kernel.begin = begin_or_fail  # type: ignore[method-assign]
        return kernel

    def pwritev(self, fd: int, buffers: Sequence[bytes], offset: int) -> int:
        if self.write_errno:
            raise OSError(self.write_errno, "refused on purpose")
        return super().pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        if self.sync_errno:
            raise OSError(self.sync_errno, "refused on purpose")
        super().fdatasync(fd)


@pytest.mark.parametrize("kernel", [False, True])
async def test_a_failed_sync_halts_the_node(tmp_path: Path, running: AsyncExitStack, kernel: bool) -> None:
    files = FailingFiles(kernel=kernel)
    watch = await start(running, config(tmp_path, sync="always"), files=files)
    await watch.until_sequencer()
    files.sync_errno = errno.EIO
    before = watch.shell.replica.commit_seq
    watch.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
    async with asyncio.timeout(5):
        await watch.shell.stopped.wait()
    assert watch.shell.halted is not None and "disk failed" in watch.shell.halted
    assert watch.shell.replica.commit_seq == before


async def test_a_full_disk_stops_acknowledging_until_there_is_room(
    tmp_path: Path, running: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "DISK_RETRY_S", 0.01)
    files = FailingFiles()
    watch = await start(running, config(tmp_path), files=files)
    await watch.until_sequencer()
    files.write_errno = errno.ENOSPC
    before = watch.shell.replica.commit_seq
    watch.shell.submit([(encode_record(RecordKind.OPEN, 1, 0, 0, 0, bytes(16)),)])
    async with asyncio.timeout(5):
        while not watch.shell.is_disk_full:
            await asyncio.sleep(0)
    assert watch.shell.halted is None and watch.shell.replica.commit_seq == before
    assert watch.shell.status()["reason"].endswith("the journal's next segment needs 64 MiB")
    files.write_errno = 0
    await watch.until(lambda: watch.shell.engine.applied_seq > before)
    assert "reason" not in watch.shell.status()
    said = [record.message for record in caplog.records]
    assert len(said) == 2 and "the disk is full" in said[0] and "has room again" in said[1]


async def test_faults_on_a_running_node_need_permission_and_a_meaning(tmp_path: Path, running: AsyncExitStack) -> None:
    strict = await start(running, config(tmp_path / "a"))
    with pytest.raises(Refused, match="allow_faults = true"):
        strict.shell.fault("loss=5%")
    lenient = await start(running, config(tmp_path / "b", allow_faults=True))
    with pytest.raises(ConfigError, match="unknown fault"):
        lenient.shell.fault("lose=5%")
    lenient.shell.fault("loss=5%,seed=3")
    transport = lenient.shell.transport
    assert str(transport._faults and transport._faults.spec) == "loss=5%,seed=3"
    lenient.shell.fault("clear")
    assert transport._faults is None


async def test_a_locked_directory_is_told_and_leaves_the_address_free(tmp_path: Path, running: AsyncExitStack) -> None:
    hub, lab = Hub(), config(tmp_path)
    await start(running, lab, hub=hub)
    other = Hub()
    with pytest.raises(EnvironmentProblem, match="in use by another process"):
        await Shell(lab, "n1", hub=other).open()
    other.link(("127.0.0.1", 7711)).close()


async def test_a_taken_address_is_told_and_leaves_the_directory_free(tmp_path: Path, running: AsyncExitStack) -> None:
    hub, lab = Hub(), config(tmp_path)
    taken = hub.link(("127.0.0.1", 7711))
    with pytest.raises(EnvironmentProblem, match="in use"):
        await Shell(lab, "n1", hub=hub).open()
    taken.close()
    await start(running, lab, hub=hub)


async def test_datagrams_larger_than_the_interface_carries_are_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Interface(name="lo", index=1, addresses=("127.0.0.1",), up=True, multicast=True, loopback=True, mtu=1400)
    monkeypatch.setattr(place, "choose_interface", lambda *args, **options: narrow)
    lab = config(tmp_path)
    with pytest.raises(ConfigError, match="set mtu = 1400"):
        await setup.open_link(lab, lab.nodes[0], bytes(16), hub=None, offload=True)


def test_a_machine_that_cannot_be_made_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "picky_machine.py").write_text(
        "import mcast\n\n\nclass Picky(mcast.StateMachine):\n    def __init__(self, size): ...\n"
    )
    with pytest.raises(ConfigError, match="__init__ without arguments"):
        setup.load_machine_of(config(tmp_path, machine="picky_machine:Picky"))


async def test_a_data_dir_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, problem in (("file", "it is a file"), ("file/below", "cannot be made: Not a directory")):
        with pytest.raises(EnvironmentProblem, match=f"data_dir = '{tmp_path}/{folder}': {problem}"):
            await Shell(config(tmp_path, data_dir=tmp_path / folder), "n1", hub=Hub()).open()


async def test_a_halted_node_takes_no_part(tmp_path: Path, running: AsyncExitStack) -> None:
    watch = await start(running, config(tmp_path), machine=Deep())
    await watch.until_sequencer()
    shell = watch.shell
    session = await open_session(watch)
    shell.submit([commands(session, 1, [["dive"]])])
    async with asyncio.timeout(5):
        await shell.stopped.wait()
    assert shell.ask_read() is None
    assert (shell.hand_over(1) or "").startswith("n1 takes no part: ")
    shell.on_transfer_failed(1)
    assert (shell._turn, shell._timer) == (None, None), "nothing is booked any more"


async def test_a_node_that_halts_before_it_joins_takes_no_part(tmp_path: Path) -> None:
    shell = Shell(config(tmp_path), "n1", hub=Hub())
    await shell.open()
    shell.halt("a test")
    shell.join()
    assert shell.ask_read() is None
    assert shell._turn is None
    await shell.stop()


async def test_sockets_are_drained_before_the_timer_judges_who_was_silent(
    tmp_path: Path, running: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = (await start(running, config(tmp_path))).shell
    order: list[str] = []

    def noting(what: str, do: Callable[[float], Any]) -> Callable[[float], Any]:
        def note(now: float) -> Any:
            order.append(what)
            return do(now)

        return note

    monkeypatch.setattr(shell.transport, "receive", noting("receive", shell.transport.receive))
    monkeypatch.setattr(shell.replica, "tick", noting("tick", shell.replica.tick))
    monkeypatch.setattr(shell.replica, "next_deadline", lambda: 0.0)
    shell._driver.on_timer()
    assert order[:2] == ["receive", "tick"]
