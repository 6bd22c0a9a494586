"""What the drivers write and read on the wire, and what they hand to their servers."""

import pytest

from mcast.bench.job import BrokenRun
from tools.other_systems import corosync, etcd, nats, redis
from tools.other_systems.protobuf import blob, number


def test_a_redis_command() -> None:
    assert redis.command(b"XADD", b"s", b"\r\n") == b"*3\r\n$4\r\nXADD\r\n$1\r\ns\r\n$2\r\n\r\n\r\n"


def test_a_nats_publication() -> None:
    assert nats.publication(b"events", b"in", b"abc") == b"PUB events in 3\r\nabc\r\n"


def test_nats_messages_come_back_wherever_the_bytes_are_cut() -> None:
    data = b"INFO {}\r\nMSG s 1 in 4\r\nab\r\n\r\nPING\r\nMSG s 1 0\r\n\r\n+OK\r\n"
    assert nats.parse(data) == ([(b"in", b"ab\r\n"), (b"", b"")], 1, b"")
    for cut in range(len(data)):
        first, pings, rest = nats.parse(data[:cut])
        then, more, rest = nats.parse(rest + data[cut:])
        assert (first + then, pings + more, rest) == ([(b"in", b"ab\r\n"), (b"", b"")], 1, b"")


def test_a_nats_error_breaks_the_run() -> None:
    with pytest.raises(BrokenRun, match="Stale"):
        nats.parse(b"-ERR 'Stale Connection'\r\n")


def put(value: bytes) -> bytes:
    return blob(11, blob(2, blob(1, b"key") + number(4, 1) + blob(5, value)))


def test_an_etcd_watch_gives_the_values_put() -> None:
    answer = blob(1, number(2, 7)) + number(2, 0) + put(b"one") + put(b"two")
    assert list(etcd.watched(answer)) == [b"one", b"two"]
    with pytest.raises(BrokenRun, match="cancelled a watch"):
        list(etcd.watched(number(4, 1) + put(b"one")))


def test_corosync_knows_every_node_and_takes_no_real_time_priority() -> None:
    text = corosync.configuration(["10.78.0.1", "10.78.0.2"])
    assert text.count("{") == text.count("}")
    for number_, address in enumerate(["10.78.0.1", "10.78.0.2"], 1):
        assert f"ring0_addr: {address}\n    nodeid: {number_}\n" in text
    assert "sched_rr: no" in text
