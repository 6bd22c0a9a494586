"""What a node says of its own reach: which ways are blocked, and that it is out of touch."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mcast.node import watch
from mcast.node.watch import LASTS_LOOKS, STREAM_LATELY_S, STREAM_UNHEARD, Watch
from mcast.protocol.ways import Reception
from mcast.wire.envelope import name_hash

NEVER = float("inf")
FINE = Reception(0.01, NEVER, NEVER, 0, (), 0, None)


class Lab:
    """A watch, and what its node's protocol says."""

    def __init__(self) -> None:
        nodes = [
            SimpleNamespace(id=f"n{n}", address=f"10.0.0.{n}:7711", host=f"10.0.0.{n}", port=7711) for n in (1, 2, 3)
        ]
        self.reception = FINE
        self.isolated = False
        self.leads_epoch = False
        self.unforwarded: str | None = None
        self.heard = {name_hash("n1"): 0.1, name_hash("n3"): NEVER}
        replica = SimpleNamespace(
            sequencer=name_hash("n1"), reception=lambda now: self.reception, is_isolated=lambda now: self.isolated,
            in_touch_s=lambda now: 7.0, statistics=lambda: SimpleNamespace(sought=()),
        )  # fmt: skip
        self.replica: Any = replica
        shell: Any = SimpleNamespace(
            config=SimpleNamespace(nodes=nodes, port=7700, group="239.1.2.3", mtu=1500), node=nodes[1], node_id="n2",
            on_look=lambda: self.unforwarded,
            replica=replica, transport=SimpleNamespace(silences=lambda now: self.heard, link=None, refusals=dict),
        )  # fmt: skip
        self.watch = Watch(shell)

    def look(self, times: int = LASTS_LOOKS, **reception: Any) -> list[str]:
        self.replica.leads_epoch = self.leads_epoch
        if reception:
            self.reception = Reception(*{**{name: getattr(FINE, name) for name in FIELDS}, **reception}.values())
        for _ in range(times):
            self.watch._look()
        return self.watch.findings()


FIELDS = Reception.__slots__


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(watch.Watch, "start", lambda self: None)
    yield Lab()


def test_a_node_that_hears_everything_says_nothing(lab: Lab) -> None:
    assert lab.look() == [] and lab.watch.isolated is None


@pytest.mark.parametrize(
    ("reception", "says"),
    [
        ({"multicast_s": 9.0, "unicast_s": 0.1}, "no multicast of n1 arrives, and its heartbeats come by unicast: UDP"),
        ({"multicast_s": 9.0, "tcp_s": 0.1}, "no datagram of n1 arrives, and its heartbeats come by TCP: UDP ports"),
        ({"tcp_s": 0.1}, "its datagrams do not arrive at n1, and it answers over TCP: open UDP 10.0.0.1:7711"),
        ({"carried": 0}, "no datagram of n1 to this node's own address arrives, nor repairs, which are fetched"),
        (
            {"carried": 1_292},
            "the path from n1 to n2 is too narrow: datagrams arrive that are made for mtu = 1340,",
        ),
        ({"unheard": STREAM_UNHEARD}, "nothing of n1's stream arrives, which is repaired piece by piece"),
    ],
)
def test_what_is_blocked_is_told_when_it_lasts_and_until_it_has_passed(
    lab: Lab, reception: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert lab.look(LASTS_LOOKS - 1, **reception) == [] or "carried" in reception
    (reported,) = lab.look(5)
    assert reported.startswith(says)
    assert len(caplog.records) == 1, "once"
    lab.reception = FINE
    assert lab.look(1) == []
    assert caplog.messages[1].endswith(": no more")


def test_a_sequencer_hears_no_heartbeats_and_is_not_deaf(lab: Lab) -> None:
    lab.leads_epoch = True
    assert lab.look(multicast_s=NEVER, unicast_s=NEVER) == []


def test_commands_that_do_not_get_to_the_sequencer_are_told_beside_a_path_too_narrow(lab: Lab) -> None:
    lab.unforwarded = "n1 at 10.0.0.1:7711: no answer within 10 s"
    assert lab.look(LASTS_LOOKS - 1, carried=1_292)[1:] == [], "a moment is none"
    reported = sorted(lab.look(1))
    assert reported[0] == (
        "commands that come to it do not get to n1: n1 at 10.0.0.1:7711: no answer within 10 s; open TCP 10.0.0.1:7711 "
        "for it in the firewalls between them, both ways"
    )
    assert reported[1].startswith("the path from n1 to n2 is too narrow")
    lab.leads_epoch = True
    assert lab.look(1) == []
    lab.leads_epoch, lab.isolated = False, True
    assert lab.look(LASTS_LOOKS) == [], "being isolated is the finding then"


def test_what_hinders_is_known_with_the_look_that_finds_it(lab: Lab) -> None:
    assert lab.look(1) == [] and lab.watch.hindrance() is None
    lab.unforwarded = "n1 at 10.0.0.1:7711: no answer for 2 s"
    assert lab.look(1) == []
    assert str(lab.watch.hindrance()).startswith(
        "commands that come to it do not get to n1: n1 at 10.0.0.1:7711: no an"
    )
    lab.isolated = True
    assert str(lab.watch.hindrance()).startswith("n2 is isolated: for 7 s")
    lab.isolated, lab.unforwarded = False, None
    lab.look(1)
    assert lab.watch.hindrance() is None


def test_a_stream_that_nothing_was_sent_on_lately_is_not_said_to_be_blocked(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(watch, "monotonic_s", lambda: now)
    assert len(lab.look(unheard=STREAM_UNHEARD)) == 1
    now += STREAM_LATELY_S
    assert lab.look(1) == [], "the way may be open again, and nothing shows it"
    assert len(lab.look(unheard=STREAM_UNHEARD + 1)) == 1


def test_isolation_says_what_is_heard_and_is_logged_once(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.isolated = True
    assert lab.look(multicast_s=NEVER) == [], "it is told apart"
    reported = str(lab.watch.isolated)
    assert (
        "for 7 s no majority has confirmed to it what is committed; it hears n1, and nothing of n3. Start " in reported
    )
    assert (
        "Start those of n3 that do not run; else look for what blocks the network between them and n2: UDP" in reported
    )
    lab.isolated = False
    lab.look()
    assert str(lab.watch.isolated) == "None"
    assert [message.partition(" majority")[0] for message in caplog.messages] == [
        "node n2 is isolated: for 7 s no", "node n2 is in touch with a",
    ]  # fmt: skip
