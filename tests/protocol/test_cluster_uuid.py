"""Whose log goes on as which cluster."""

import random
from dataclasses import replace

import pytest

from mcast.protocol.cluster_uuid import new_uuid, recovered_uuid, succeeds
from mcast.protocol.effects import HaltRequired
from mcast.protocol.replica import Replica
from mcast.wire.frame import Frame, make_frame
from mcast.wire.messages import Configuration, Member, Recovery, encode_message
from mcast.wire.records import RecordKind, encode_record

from .bench import KEY, arrival, core, drain, epoch_log, replica, settings
from .bench import recovered as found
from .test_following import beat

LOG = epoch_log([(1, "n3", 2)])
ALONE = Member("n1", b"another storage!", "10.0.0.1:1")


def recovery_frame(log: list[Frame], former: tuple[Member, ...] = ()) -> Frame:
    """What `mcast recover` on n1 adds to a log."""
    uuid = recovered_uuid(core("n1", log).cluster_uuid, 5)
    payload = encode_message(Recovery(uuid, Configuration(2, (ALONE,)), former))
    record = encode_record(RecordKind.RECOVERY, 1, 0, 0, 0, payload)
    newest = log[-1]
    return make_frame(9, newest.last + 1, 1, newest.last, newest.time, newest.chain, record)


def test_a_recovery_succeeds_what_it_came_from_and_of_two_one_prevails() -> None:
    first, other = new_uuid((1 << 128) - 1), new_uuid(7)
    one, two = recovered_uuid(first, 1), recovered_uuid(first, 2)
    assert first[15] == 0
    assert succeeds(one, first) and succeeds(recovered_uuid(one, 0), two)
    assert not succeeds(first, one) and not succeeds(first, first)
    assert succeeds(two, one) and not succeeds(one, two)
    assert not succeeds(recovered_uuid(other, 1), first)


def test_a_recovery_in_the_log_names_the_cluster_its_only_voter_and_who_may_come_back() -> None:
    former = (Member("n1", bytes(16), "10.0.0.1:1"), Member("n7", bytes(16), "10.0.0.7:1"))
    shared = core("n1", [*LOG, recovery_frame(LOG, former)], 9)
    assert shared.cluster_uuid == recovered_uuid(core("n1", LOG).cluster_uuid, 5)
    assert shared.voters() == {KEY["n1"]: ALONE.storage_id}
    assert [name for name, _ in shared.known.values()] == ["n1", "n2", "n3", "n7"]
    assert shared.commit_seq == LOG[-1].last


def heard(node: Replica, uuid: bytes, *, repeated: bool = True) -> list[object]:
    """The notices of a node that hears n3 lead another cluster."""
    for beats in range(1, 22 if repeated else 2):
        said = replace(beat(LOG, 1, round=beats), cluster_uuid=uuid)
        node.receive([arrival("n3", said, promised=1)], 0.05 * beats)
        drain(node, 0.05 * beats)
    return [notice for notice in node.take_notices() if isinstance(notice, HaltRequired)]


def test_a_voter_of_the_cluster_before_halts_and_says_what_to_do() -> None:
    node = replica("n1", LOG, 1)
    assert heard(node, recovered_uuid(node.cluster_uuid, 1), repeated=False) == [], "one word may be forged"
    (halt,) = heard(node, recovered_uuid(node.cluster_uuid, 1))
    assert isinstance(halt, HaltRequired) and "data directory" in halt.reason


def test_one_that_had_no_vote_goes_on() -> None:
    stored = found("n1", LOG, 1)
    fresh = replace(stored, meta=replace(stored.meta, storage_id=b"fresh".ljust(16)))
    node = Replica(settings("n1"), fresh, random.Random(1), 0.0)
    assert heard(node, recovered_uuid(node.cluster_uuid, 1)) == []
    assert node.sequencer == KEY["n3"]


@pytest.mark.parametrize("uuid", [b"a foreign one...", bytes(15) + b"\1"])
def test_a_foreign_cluster_is_counted_and_not_heard(uuid: bytes) -> None:
    node = replica("n1", LOG, 1)
    assert heard(node, uuid) == []
    assert (node.sequencer, node.statistics().counts["foreign cluster"]) == (None, 21)
