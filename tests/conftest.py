"""What every test shares."""

import asyncio
import importlib.util
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving
from mcast.node.gateway.gateway import Gateway

# The same examples in every run, whatever the machine's load; nothing is written beside the tests.
settings.register_profile("mcast", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("mcast")

# A shell that starts a program in the background has it ignore SIGINT, and all that it starts; some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Tests of what runs inside programs of users, and so on event loops of their choice.
ON_EVERY_LOOP = frozenset({
    "client/test_client.py", "client/test_failover.py", "client/test_opening.py", "client/test_subscribe.py",
    "net/test_secured.py",
    "node/gateway/test_gateway.py", "node/gateway/test_gateway_sealed.py", "node/test_embedding.py",
    "node/test_exceptions.py", "node/test_node.py", "testing/test_cluster.py",
})  # fmt: skip

# Tests that wait for nothing but a processor: no sockets, no real time ...
COMPUTING = frozenset({
    "analysis", "history", "machine", "mutants", "protocol", "seal", "sim", "storage", "wire",
    "test_clock.py", "test_config.py", "test_method_names.py", "test_public.py", "test_tidy.py", "test_vocabulary.py",
})  # fmt: skip
# ... and those whose nodes all share one process, which is late for all of them at once. The others start processes.
IN_PROCESS = frozenset({"client", "net", "node", "testing"})
NICE = 5


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Everything runs in two processes where there are two processors; a file, a folder, a choice of tests in one."""
    option = config.option
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not (option.keyword or option.markexpr)
    undecided = getattr(option, "numprocesses", 0) is None and not option.usepdb and not is_beside_another(config)
    if everything and undecided and (os.cpu_count() or 1) > 1:
        option.numprocesses, option.dist = 2, "load"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that start processes run one after the other; beside them first those in process, then what computes."""
    from xdist.scheduler import LoadScopeScheduling

    class Beside(LoadScopeScheduling):  # type: ignore[misc] # it has no types
        def _split_scope(self, nodeid: str) -> str:
            room = room_of(nodeid)
            return nodeid if room in COMPUTING else "in process" if room in IN_PROCESS else "processes"

    return Beside(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Programs that tests start compile no module a second time, even where nothing may be written beside it."""
    cache: pytest.Cache | None = getattr(config, "cache", None)  # none with -p no:cacheprovider
    if cache is not None and os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))


def room_of(nodeid: str) -> str:
    """The folder of tests that this one is in, or its file."""
    return nodeid.removeprefix("tests/").split("::")[0].split("/")[0]


def is_beside_another(config: pytest.Config) -> bool:
    """Whether this is one of several processes that run tests."""
    return hasattr(config, "workerinput")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Who computes leaves the processors to the other process, whenever that wants one."""
    if is_beside_another(item.config) and room_of(item.nodeid) in COMPUTING and os.nice(0) < NICE:
        os.nice(NICE - os.nice(0))


@pytest.fixture(autouse=True)
def _no_log_handler_outlives_its_test() -> Iterator[None]:
    """`mcast node`, run inside a test, has the process log to a stream that pytest closes behind it."""
    before = list(logging.root.handlers)
    yield
    for handler in list(logging.root.handlers):
        if handler not in before:
            logging.root.removeHandler(handler)


@pytest.fixture
async def cluster(tmp_path: Path) -> FakeCluster:
    """A cluster whose nodes are stand-ins for the protocol, and whose gateways are real."""
    return FakeCluster(tmp_path, KeyValue)


@pytest.fixture
async def gateways(cluster: FakeCluster) -> AsyncIterator[dict[str, Gateway]]:
    """Its nodes' gateways, which serve."""
    async with serving(cluster) as started:
        yield started


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop, and uvloop's beside it for some."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    everywhere = item.path.relative_to(Path(__file__).parent).as_posix() in ON_EVERY_LOOP
    if everywhere and importlib.util.find_spec("uvloop") is not None:
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return factories
