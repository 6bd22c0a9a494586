from pathlib import Path

from mcast.config import Config, NodeConfig
from mcast.limits import UNPROVEN_S
from mcast.net.faulty import Faults, FaultSpec
from mcast.net.memory import Hub, MemoryLink
from mcast.node.setup import make_transport
from mcast.node.transport import Transport
from mcast.seal.datagram import Opener, Sealer
from mcast.seal.incarnations import Incarnations, ProvenDatagram
from mcast.seal.keys import KeyRing
from mcast.wire.envelope import CONTROL, STREAM, name_hash
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.messages import Busy, Kind, Stale, encode_message

ADDRESSES = {"a": ("a", 1), "b": ("b", 2)}
FRAMES = [make_frame(1, 1, 1, 0, 0, CHAIN_ZERO, b"first"), make_frame(1, 2, 1, 0, 0, CHAIN_ZERO, b"second")]


def transport(
    link: MemoryLink, node: str, incarnation: int = 1, ring: KeyRing | None = None,
    promised: int = 5,
) -> Transport:  # fmt: skip
    every = [name_hash(name) for name in ADDRESSES]
    peers = {name_hash(name): address for name, address in ADDRESSES.items()}
    return Transport(
        link, Sealer(ring, "lab", node, bytes([incarnation]) * 16), Opener(ring, "lab", every, name_hash(node)),
        Incarnations(name_hash(node), every, lambda size: bytes(size)), peers, promised,
    )  # fmt: skip


def pair() -> tuple[Transport, Transport]:
    """Two that have proven themselves to each other."""
    hub = Hub()
    a, b = transport(hub.link(ADDRESSES["a"]), "a"), transport(hub.link(ADDRESSES["b"]), "b", 2)
    a.multicast(Busy(1, 0))
    b.multicast(Busy(1, 0))
    for _ in range(4):
        a.receive(0.0)
        b.receive(0.0)
    return a, b


def messages(arrivals: list[ProvenDatagram]) -> list[object]:
    found: list[object] = []
    for arrival in arrivals:
        found += arrival.message if type(arrival.message) is list else [arrival.message]
    return found


def test_what_comes_before_the_proof_is_held_and_then_delivered() -> None:
    hub = Hub()
    a, b = transport(hub.link(ADDRESSES["a"]), "a"), transport(hub.link(ADDRESSES["b"]), "b", 2)
    a.stream(FRAMES)
    assert b.receive(0.0) == []
    a.receive(0.0)
    assert messages(b.receive(0.0)) == FRAMES


def test_frames_and_messages_arrive_in_envelopes_that_carry_the_promise() -> None:
    a, b = pair()
    a.stream(FRAMES)
    a.repair(None, FRAMES[:1])
    a.repair(name_hash("b"), FRAMES[1:])
    a.multicast(Busy(7, 0))
    a.send(name_hash("b"), Stale(3))
    arrivals = b.receive(0.0)
    assert messages(arrivals) == [*FRAMES, FRAMES[0], FRAMES[1], Busy(7, 0), Stale(3)]
    assert {arrival.envelope.promised for arrival in arrivals} == {5}
    assert [arrival.envelope.kind for arrival in arrivals[:3]] == [Kind.DATA, Kind.REPAIR, Kind.REPAIR]
    assert arrivals[0].message == FRAMES, "consecutive frames arrive as one run"


def test_the_stream_channel_counts_first_sent_frames_and_nothing_else() -> None:
    a, b = pair()
    a.stream(FRAMES)
    a.repair(None, FRAMES)
    a.multicast(Busy(1, 0))
    a.stream(FRAMES[:1])
    runs = [arrival for arrival in b.receive(0.0) if arrival.envelope.channel == STREAM]
    counters = [arrival.envelope.counter + index for arrival in runs for index, _ in enumerate(messages([arrival]))]
    assert counters == [1, 2, 3]


def test_garbage_is_counted_under_its_reason() -> None:
    a, b = pair()
    a.link.send(CONTROL, [b"", b"x" * 100])
    assert b.receive(0.0) == []
    assert b.dropped == {"short envelope": 1, "not an mcast datagram": 1}


def test_what_was_held_for_a_proof_that_never_came_is_counted() -> None:
    a, b = pair()
    sealer = Sealer(None, "lab", "a", bytes([9]) * 16)
    a.link.send(STREAM, sealer.seal_frames(Kind.DATA, STREAM, 5, FRAMES))
    assert b.receive(10.0) == []
    assert b.refusals() == {}
    b.tick(10.0 + UNPROVEN_S)
    assert b.refusals() == {"never proven": len(FRAMES)}


def test_a_node_without_an_address_is_counted_not_raised() -> None:
    a, _ = pair()
    a.send(12345, Busy(1, 0))
    a.repair(12345, FRAMES)
    assert a.dropped == {"no address": 2}


def test_faults_meet_foreign_datagrams_only_and_clearing_delivers_what_they_hold() -> None:
    a, b = pair()
    notes: list[tuple[str, bytes, int]] = []
    b.set_faults(Faults(FaultSpec(delay_s=5.0), "b", lambda *note: notes.append(note)))
    a.stream(FRAMES)
    assert b.receive(1.0) == []
    assert b.next_deadline() == 6.0
    b.set_faults(Faults(FaultSpec(loss=1.0), "b", lambda *note: notes.append(note)))
    assert b.next_deadline() == 0.0
    a.stream(FRAMES[:1])
    assert messages(b.receive(2.0)) == FRAMES
    assert notes == [("lost", bytes([1]) * 16, 3)]
    b.set_faults(None)
    assert b.next_deadline() == float("inf")


def test_a_node_without_a_key_believes_no_counter_for_being_high(tmp_path: Path) -> None:
    hub, incarnations = Hub(), {"a": bytes(15) + b"\1", "b": bytes(15) + b"\2"}
    nodes = tuple(NodeConfig(id=name, address=f"127.0.0.1:{at}") for at, name in enumerate(ADDRESSES, 7_001))
    config = Config(name="lab", nodes=nodes, folder=tmp_path, data_dir=tmp_path)
    peers = {name_hash(name): address for name, address in ADDRESSES.items()}
    a, b = (
        make_transport(config, name, incarnations[name], hub.link(ADDRESSES[name]), peers, 5, lambda: True)
        for name in ADDRESSES
    )
    for _ in range(4):
        a.multicast(Busy(1, 0))
        b.multicast(Busy(1, 0))
        a.receive(0.0)
        b.receive(0.0)
    forger = Sealer(None, "lab", "b", incarnations["b"])
    forger._sent[CONTROL] = 2**40
    b.link.send(CONTROL, [forger.seal(Kind.BUSY, CONTROL, 5, b"", encode_message(Busy(2, 0)))])
    b.multicast(Busy(3, 0))
    assert messages(a.receive(0.1)) == [Busy(2, 0), Busy(3, 0)]
