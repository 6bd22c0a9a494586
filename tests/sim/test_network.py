"""The simulated network: what the weather does to datagrams, and what breaks a connection."""

from __future__ import annotations

from random import Random

import pytest

from mcast.sim.loop import Loop
from mcast.sim.network import LATE_S, Datagram, Delivery, Network, Weather

COUNT = 400


class Ear:
    """A receiver that keeps what it hears."""

    def __init__(self, loop: Loop) -> None:
        self.up = True
        self.life = 1
        self.heard: list[tuple[float, Delivery]] = []
        self._loop = loop

    def deliver(self, arrivals: list[Delivery]) -> None:
        self.heard.extend((self._loop.now, arrival) for arrival in arrivals)

    def data(self, *fates: str) -> list[bytes]:
        return [arrival.datagram.data for _, arrival in self.heard if arrival.fate in fates]


def make(weather: Weather, nodes: int = 3) -> tuple[Loop, Network, list[Ear]]:
    loop = Loop()
    network = Network(loop, Random(7), weather)
    ears = [Ear(loop) for _ in range(nodes)]
    network.nodes = list(ears)
    return loop, network, ears


def numbered(count: int = COUNT) -> list[Datagram]:
    return [Datagram(b"%04d" % at + bytes(60), 1, (bytes(16), at + 1)) for at in range(count)]


def test_in_calm_weather_every_receiver_but_the_sender_gets_all_in_order() -> None:
    loop, network, ears = make(Weather())
    network.multicast(0, numbered())
    loop.run(1.0)
    assert ears[0].heard == []
    assert ears[1].data("") == ears[2].data("") == [datagram.data for datagram in numbered()]


def test_independent_loss_strikes_receivers_apart_and_tells_each_what_it_missed() -> None:
    loop, network, ears = make(Weather(loss=0.3))
    network.multicast(0, numbered())
    loop.run(1.0)
    missed = [set(ear.data("lost")) for ear in ears[1:]]
    assert all(80 < len(lost) < 160 for lost in missed)
    assert missed[0] != missed[1]
    assert all(len(ear.data("lost")) + len(ear.data("")) == COUNT for ear in ears[1:])


def test_shared_loss_strikes_all_receivers_alike() -> None:
    loop, network, ears = make(Weather(shared_loss=0.3))
    network.multicast(0, numbered())
    loop.run(1.0)
    assert ears[1].data("lost") == ears[2].data("lost") != []


def test_duplicates_reordered_and_corrupted_datagrams_are_told_apart() -> None:
    loop, network, ears = make(Weather(duplicate=0.1, reorder=0.1, corrupt=0.1))
    network.unicast(0, 1, numbered())
    loop.run(1.0)
    ear = ears[1]
    counts = [len(ear.data(fate)) for fate in ("duplicated", "reordered", "corrupted")]
    assert all(15 < count < 80 for count in counts)
    whole = {datagram.data for datagram in numbered()}
    assert not whole & set(ear.data("corrupted"))
    assert set(ear.data("", "reordered")) | set(ear.data("duplicated")) <= whole
    assert ear.data("", "reordered") != sorted(ear.data("", "reordered"))


def test_a_blocked_link_passes_nothing_one_way() -> None:
    loop, network, ears = make(Weather())
    network.blocked = {(0, 1)}
    network.multicast(0, numbered(5))
    network.unicast(1, 0, numbered(5))
    loop.run(1.0)
    assert ears[1].data("") == [] and len(ears[1].data("lost")) == 5
    assert len(ears[2].data("")) == len(ears[0].data("")) == 5


def test_a_copy_of_what_is_meant_for_one_goes_to_another() -> None:
    loop, network, ears = make(Weather(misdirect=0.3))
    network.unicast(0, 1, numbered())
    network.multicast(0, numbered())
    loop.run(LATE_S + 1.0)
    astray = ears[2].data("misdirected")
    assert 80 < len(astray) < 160, "of unicast datagrams only"
    assert len(ears[1].data("")) == 2 * COUNT and ears[0].heard == []
    assert max(when for when, arrival in ears[2].heard if arrival.fate) > 1.0, "some of them much later"


def test_no_copy_passes_a_blocked_link() -> None:
    loop, network, ears = make(Weather(misdirect=1.0))
    network.blocked = {(0, 2)}
    network.unicast(0, 1, numbered())
    loop.run(LATE_S + 1.0)
    assert ears[2].heard == []


def test_some_arrive_seconds_late_and_of_some_a_copy_does() -> None:
    loop, network, ears = make(Weather(late=0.2))
    network.unicast(0, 1, numbered())
    loop.run(LATE_S + 1.0)
    late = [(when, arrival.fate) for when, arrival in ears[1].heard if arrival.fate]
    assert {fate for _, fate in late} == {"reordered", "duplicated"}
    assert 1.0 < max(when for when, _ in late) <= LATE_S + 0.1
    assert len(ears[1].data("", "reordered")) == COUNT


def test_isolation_cuts_both_ways_and_only_at_the_border() -> None:
    _, network, _ = make(Weather(), nodes=4)
    network.isolate([0, 1])
    assert network.blocked == {(a, b) for a in range(4) for b in range(4) if (a < 2) != (b < 2)}


@pytest.mark.parametrize("trouble", ["none", "cut", "one way cut", "far end down", "far end restarted"])
def test_an_exchange_is_answered_or_breaks(trouble: str) -> None:
    loop, network, ears = make(Weather())
    reported: list[str] = []
    network.exchange(0, 1, lambda: "answer", reported.append, lambda: reported.append("broken"))
    if trouble == "cut":
        network.isolate([0])
    elif trouble == "one way cut":
        network.blocked = {(1, 0)}
    elif trouble == "far end down":
        ears[1].up = False
    elif trouble == "far end restarted":
        ears[1].life += 1
    loop.run(1.0)
    assert reported == (["answer"] if trouble == "none" else ["broken"])


def test_messages_on_one_connection_keep_their_order_in_any_weather() -> None:
    loop, network, _ = make(Weather(loss=0.5, jitter_s=0.01))
    seen: list[int] = []
    for at in range(50):
        network.send_tcp(0, 1, lambda at=at: seen.append(at), lambda: seen.append(-1))  # type: ignore[misc]
    loop.run(1.0)
    assert seen == list(range(50))


def test_nobody_is_told_of_a_broken_connection_after_its_own_restart() -> None:
    loop, network, ears = make(Weather())
    reported: list[str] = []
    network.send_tcp(0, 1, lambda: reported.append("arrived"), lambda: reported.append("broken"))
    ears[0].life += 1
    loop.run(1.0)
    assert reported == []
