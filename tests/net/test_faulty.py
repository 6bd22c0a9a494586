import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.errors import ConfigError
from mcast.net.faulty import DELAYED_MAX, REORDER_S, Faults, FaultSpec, parse_faults
from mcast.wire.envelope import CONTROL, STREAM, Envelope, encode_envelope, name_hash
from mcast.wire.messages import Kind

INCARNATION = bytes(range(16))
Notes = list[tuple[str, bytes, int]]


def data(counter: int, kind: int = Kind.DATA, channel: int = STREAM) -> bytes:
    return encode_envelope(Envelope(kind, channel, 0, 1, 2, INCARNATION, counter, 1)) + counter.to_bytes(4, "big")


def faults(spec: str, node: str = "n1") -> tuple[Faults, Notes]:
    notes: Notes = []
    parsed = parse_faults(spec)
    assert parsed is not None
    return Faults(parsed, node, lambda *note: notes.append(note)), notes


def counters(datagrams: list[memoryview | bytes]) -> list[int]:
    return [int.from_bytes(datagram[-4:], "big") for datagram in datagrams]


def test_a_whole_specification_is_read() -> None:
    spec = parse_faults("loss=5%, dup=1%,reorder=2%,corrupt=0.1%,delay=5ms,seed=7")
    assert spec == FaultSpec(loss=0.05, dup=0.01, reorder=0.02, corrupt=0.001, delay_s=0.005, seed=7)
    assert parse_faults(str(spec)) == spec
    assert parse_faults("clear") is None
    assert parse_faults("delay=1s") == FaultSpec(delay_s=1.0)
    cut = parse_faults("cut=n3+n2,loss=1%")
    assert cut == FaultSpec(loss=0.01, cut=frozenset({"n2", "n3"})) and parse_faults(str(cut)) == cut


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("", "unknown fault"), ("loss", "wants a number"), ("loss=5", "wants a number"), ("loss=-5%", "wants a number"),
        ("loss=101%", "out of range"), ("loss=60%,dup=60%", "more than 100%"), ("loss=1%,loss=2%", "twice"),
        ("lag=5ms", "unknown fault"), ("delay=5", "wants a number with ms"), ("delay=11s", "out of range"),
        ("seed=1.5", "out of range"), ("seed=x", "wants a number"), ("loss=nan%", "wants a number"),
        ("loss=5%;reboot", "wants a number"),
        ("cut=", "wants node ids"), ("cut=n1+", "wants node ids"), ("cut=n1,cut=n2", "twice"),
        ("loss=1%," * 100, "longer than"),
    ],
)  # fmt: skip
def test_a_bad_specification_is_answered_with_an_example(spec: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        parse_faults(spec)
    assert 'write for example "loss=5%' in caught.value.fix


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spec = parse_faults(text)
    except ConfigError:
        return
    assert spec is None or 0 <= spec.loss + spec.dup + spec.reorder + spec.corrupt <= 1


def test_shares_come_out_as_asked_and_every_first_sent_loss_is_noted() -> None:
    lossy, notes = faults("loss=10%,dup=5%,seed=1")
    heard = counters(lossy.receive([data(n) for n in range(1, 10_001)], 0.0))
    lost = [counter for fate, _, counter in notes if fate == "lost"]
    doubled = [counter for fate, _, counter in notes if fate == "duplicated"]
    assert 900 < len(lost) < 1_100 and 400 < len(doubled) < 600
    assert sorted(heard + lost) == sorted([*range(1, 10_001), *doubled])
    assert all(incarnation == INCARNATION for _, incarnation, _ in notes)


def test_the_same_seed_repeats_itself_and_nodes_differ() -> None:
    burst = [data(n) for n in range(500)]
    runs = [counters(faults("loss=20%,seed=3", node)[0].receive(burst, 0.0)) for node in ("n1", "n1", "n2")]
    assert runs[0] == runs[1] != runs[2]


def test_only_first_sent_data_is_noted() -> None:
    lossy, notes = faults("loss=100%")
    others = [data(1, Kind.REPAIR, CONTROL), data(2, Kind.HEARTBEAT, CONTROL), b"garbage", b""]
    assert lossy.receive([*others, data(9)], 0.0) == []
    assert notes == [("lost", INCARNATION, 9)]


def test_nothing_comes_through_from_nodes_that_are_cut_off() -> None:
    severed, notes = faults("cut=n7+n8")
    envelope = Envelope(Kind.DATA, STREAM, 0, 1, name_hash("n7"), INCARNATION, 1, 1)
    other = encode_envelope(envelope._replace(sender=name_hash("n9")))
    buffer = bytearray(encode_envelope(envelope))
    assert severed.receive([memoryview(buffer), other, b"garbage"], 0.0) == [other, b"garbage"]
    assert notes == [("lost", INCARNATION, 1)]
    assert [severed.cuts(one) for one in (bytes(buffer), other, b"")] == [True, False, False]
    assert notes == [("lost", INCARNATION, 1)], "TCP loses nothing that the ledger counts"


def test_corruption_flips_one_bit() -> None:
    corrupting, notes = faults("corrupt=100%")
    (changed,) = corrupting.receive([data(5)], 0.0)
    difference = int.from_bytes(changed, "big") ^ int.from_bytes(data(5), "big")
    assert difference.bit_count() == 1
    assert notes == [("corrupted", INCARNATION, 5)]


def test_delay_holds_everything_until_it_is_due() -> None:
    slow, notes = faults("delay=5ms")
    assert slow.receive([data(1), data(2)], 10.0) == []
    assert slow.next_due() == pytest.approx(10.005)
    assert slow.receive([data(3)], 10.004) == []
    assert counters(slow.receive([], 10.0051)) == [1, 2]
    assert counters(slow.receive([], 11.0)) == [3]
    assert slow.next_due() is None and notes == []


def test_reordered_datagrams_are_overtaken_but_never_lost() -> None:
    shuffling, notes = faults("reorder=30%,seed=5")
    heard = counters(shuffling.receive([data(n) for n in range(1_000)], 0.0))
    heard += counters(shuffling.receive([], REORDER_S))
    assert sorted(heard) == list(range(1_000)) and heard != sorted(heard)
    assert all(abs(place - counter) < 20 for place, counter in enumerate(heard))
    assert 250 < sum(fate == "reordered" for fate, _, _ in notes) < 350


def test_the_last_datagram_of_a_burst_is_not_held_for_ever() -> None:
    shuffling, _ = faults("reorder=100%")
    assert shuffling.receive([data(1)], 1.0) == []
    assert shuffling.next_due() == pytest.approx(1.0 + REORDER_S)
    assert counters(shuffling.receive([], 1.0 + REORDER_S)) == [1]


def test_what_is_held_is_released_when_faults_are_cleared() -> None:
    slow, left_alone = [faults("delay=1s,reorder=50%,seed=2")[0] for _ in range(2)]
    for each in (slow, left_alone):
        each.receive([data(n) for n in range(20)], 0.0)
    released = counters([*slow.release()])
    assert sorted(released) == list(range(20)) and slow.next_due() is None
    assert released == counters([*left_alone.receive([], 1.0), *left_alone.receive([], 2.0)])


def test_memory_is_bounded_and_the_excess_is_a_noted_loss() -> None:
    slow, notes = faults("delay=10s")
    slow.receive([data(7)] * (DELAYED_MAX + 3), 0.0)
    assert notes == [("lost", INCARNATION, 7)] * 3


def test_held_datagrams_do_not_alias_the_receive_buffer() -> None:
    slow, _ = faults("delay=1ms")
    buffer = bytearray(data(1))
    slow.receive([memoryview(buffer)], 0.0)
    buffer[-4:] = bytes(4)
    assert counters(slow.receive([], 1.0)) == [1]
