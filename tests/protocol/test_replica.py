"""What only the parts together can get wrong: that each is woken when it has work."""

from mcast.limits import BOOTSTRAP_RETRY_S, READ_RETRY_S, SUSPECT_ASK_S
from mcast.protocol.effects import Append, Promise, WriteMeta
from mcast.wire.messages import Ack, Stale

from .bench import SETTLED, arrival, drain, frame_arrival, of, replica
from .repair.test_nak_sender import LOG as STREAM
from .test_following import LOG, follower, hear
from .test_log_recovery import suspect


def test_who_founds_or_doubts_its_log_is_woken_to_ask_again() -> None:
    founder = replica("n1")
    assert founder.next_deadline() == 0.0
    founder.tick(0.0)
    assert founder.next_deadline() == BOOTSTRAP_RETRY_S
    doubtful = suspect()
    assert doubtful.next_deadline() == 0.0
    doubtful.tick(0.0)
    drain(doubtful, 0.0)
    assert doubtful.next_deadline() <= SUSPECT_ASK_S


def test_an_acknowledgement_is_said_before_the_promise_that_completes_with_it() -> None:
    node = follower(LOG[:2])
    hear(node, LOG[:2])
    node.receive([frame_arrival("n1", LOG[2], counter=2)], 0.02)
    node.receive([arrival("n3", Stale(1), promised=2)], 0.02)
    effects = node.take_effects()
    for ticket in (of(Append, effects)[0].ticket, of(WriteMeta, effects)[0].ticket):
        node.complete(ticket, 0.03)
    effects = node.take_effects()
    (ack,) = of(Ack, effects)
    assert ack.epoch == 1
    assert type(effects[-1]) is Promise and effects[-1].epoch == 2, "said under the older one, so before the newer"


def test_who_waits_for_a_read_index_is_woken_to_ask_again() -> None:
    reader = follower(LOG, rules=SETTLED)
    hear(reader, LOG)
    reader.ask_read(0.1)
    drain(reader, 0.1)
    assert reader.next_deadline() == 0.1 + READ_RETRY_S


def test_who_misses_something_is_woken_to_ask_for_it() -> None:
    lossy = follower(STREAM[:2])
    hear(lossy, STREAM[:2])
    lossy.receive([frame_arrival("n1", STREAM[3], counter=3)], 0.02)
    drain(lossy, 0.02)
    assert lossy.next_deadline() < 0.03
