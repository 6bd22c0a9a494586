import pytest

from mcast.bench import query
from mcast.bench.query import QueryWorkload
from mcast.wire.levels import Consistency
from tests.bench.overload import PATIENCE, unless_overloaded

pytestmark = PATIENCE

DOCUMENT = {"bench", "machine", "gso", "workload", "sequencer", "answers_per_s", "replicas", "rounds"}
REPLICA = {
    "answers_per_s",
    "answers",
    "took_us",
    "per_event",
    "busy",
    "machine_busy",
    "kernel_busy",
    "others_busy",
    "rss_mib",
}


@pytest.mark.parametrize("level", ["session", "linearizable"])
async def test_queries_that_must_wait_are_answered_at_a_follower(level: Consistency) -> None:
    workload = QueryWorkload(level=level, clients=3, depth=1, seconds=0.1, nodes=2, sealed=False)
    document = await unless_overloaded(lambda: query.measure(workload, 1, lambda what, share: None))
    assert set(document) == DOCUMENT
    (one,) = document["rounds"]
    ((asked, reported),) = one["replicas"].items()
    assert asked != document["sequencer"]
    assert set(reported) == REPLICA
    assert reported["answers"] == reported["took_us"]["count"] > 0
    assert one["answers_per_s"] == reported["answers_per_s"] == document["answers_per_s"]["median"]


async def test_all_replicas_answer_at_the_same_time() -> None:
    workload = QueryWorkload(clients=2, depth=5, at="all", seconds=0.1, nodes=2, observers=1)
    document = await unless_overloaded(lambda: query.measure(workload, 2, lambda what, share: None))
    for one in document["rounds"]:
        assert set(one["replicas"]) == {"n1", "n2", "n3"}
        assert one["answers_per_s"] == sum(each["answers_per_s"] for each in one["replicas"].values())
        for node_id, each in one["replicas"].items():
            assert each["answers"] == 5 * each["took_us"]["count"]
            assert set(each["per_event"]) == {node_id, "client"}
