"""What every test shares."""

import asyncio
import importlib.util
import logging
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

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
