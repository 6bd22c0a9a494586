"""Datagrams of lower promises, and of higher ones."""

from mcast.protocol.effects import EpochChanged, WriteMeta
from mcast.protocol.rules import Rules
from mcast.wire.messages import Stale

from .bench import KEY, arrival, of, replica
from .test_election import LOG, silent
from .test_following import beat


def test_a_stale_envelope_is_refused_and_told() -> None:
    node = replica("n2", LOG, 5)
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 0.1)
    effects = node.take_effects()
    (stale,) = of(Stale, effects)
    assert stale.refused == 1
    node.receive([arrival("n3", beat(LOG, 1), promised=1)], 0.101)
    assert of(Stale, node.take_effects()) == []
    assert node.sequencer is None


def test_without_fencing_the_deposed_one_is_heard() -> None:
    node = replica("n2", LOG, 5, Rules(fencing=False))
    node.receive([arrival("n3", beat(LOG, 5), promised=1)], 0.1)
    assert EpochChanged(5, KEY["n3"]) in node.take_notices()


def test_a_promise_never_goes_back_not_even_while_it_is_written() -> None:
    node = silent("n2")
    for promised in (5, 3, 4, 5):
        node.receive([arrival("n3", Stale(1), promised=promised)], 2.0)
    assert [write.meta.promised for write in of(WriteMeta, node.take_effects())] == [5]
