import asyncio
import select
import socket
import sys

import pytest

from mcast.errors import EnvironmentProblem
from mcast.net import sockets
from mcast.net.interfaces import choose_interface
from mcast.net.udp import RECEIVES_MAX, UdpLink
from mcast.wire.envelope import CONTROL, STREAM, UNICAST

from .conftest import MakeLink, free_port

LINUX = sys.platform == "linux"


def address(link: UdpLink) -> tuple[str, int]:
    host, port = link._unicast.getsockname()
    return host, port


def receive(link: UdpLink, count: int, *, wait_s: float = 2.0) -> list[bytes]:
    """What arrives until there are `count`, or nothing comes any more."""
    got: list[bytes] = []
    while len(got) < count and select.select(link._hearing, [], [], wait_s)[0]:
        got += map(bytes, link.receive())
    return got


@pytest.mark.parametrize("offload", [True, False])
def test_a_burst_arrives_in_order_at_every_member(make_link: MakeLink, offload: bool) -> None:
    sender, *others = [make_link(offload=offload) for _ in range(3)]
    burst = [bytes([n]) * 1400 for n in range(99)] + [b"end"]
    sender.send(STREAM, burst)
    for link in others:
        assert receive(link, 100) == burst
        assert link.counters.datagrams_received == 100
    assert sender.counters.datagrams_sent == 100
    assert sender.counters.sends_lost == {}
    assert (sender.counters.sends < 10) == sender.counters.gso


@pytest.mark.skipif(not LINUX, reason="GSO is Linux's")
def test_a_refused_gso_send_falls_back_to_single_datagrams_for_good(
    make_link: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = make_link(), make_link()
    monkeypatch.setattr(sockets, "UDP_SEGMENT", 9_999)  # the kernel knows no such option
    sender.send(STREAM, [b"a" * 100, b"b" * 100])
    assert receive(receiver, 2) == [b"a" * 100, b"b" * 100]
    assert not sender.counters.gso


def test_unicast_reaches_its_one_receiver(make_link: MakeLink) -> None:
    sender, receiver, bystander = make_link(), make_link(), make_link()
    sender.send(UNICAST, [b"one", b"two"], address(receiver))
    assert receive(receiver, 2) == [b"one", b"two"]
    assert bystander.receive() == []


def test_the_stream_is_handed_out_before_the_heartbeat_that_names_it(make_link: MakeLink) -> None:
    sender, receiver = make_link(), make_link()
    sender.send(CONTROL, [b"heartbeat"])
    sender.send(STREAM, [b"frame"])
    assert receive(receiver, 2) == [b"frame", b"heartbeat"]


def test_one_wakeup_takes_a_bounded_burst_and_says_that_there_is_more(make_link: MakeLink) -> None:
    sender, receiver = make_link(offload=False), make_link(offload=False)
    sender.send(STREAM, [bytes(8)] * (RECEIVES_MAX + 5))
    assert len(receiver.receive()) == RECEIVES_MAX and receiver.has_more
    assert len(receiver.receive()) == 5 and not receiver.has_more


def test_a_flood_of_one_socket_leaves_the_others_their_share(make_link: MakeLink) -> None:
    sender, receiver = make_link(), make_link()
    burst = [bytes([7]) * 1400] * 40
    for _ in range(30):
        sender.send(CONTROL, burst)
        sender.send(UNICAST, burst, address(receiver))
    sender.send(STREAM, [b"frame"])
    assert bytes(receiver.receive()[0]) == b"frame"
    assert receiver.has_more


@pytest.mark.skipif(not LINUX, reason="the filter is Linux's")
def test_the_kernel_drops_ones_own_incarnation_and_nothing_else(make_link: MakeLink) -> None:
    own, other = bytes(range(16)), bytes(range(1, 17))
    link = make_link(incarnation=own)
    head = bytes(24)
    link.send(STREAM, [head + own + b"mine"])
    link.send(CONTROL, [head + own + b"mine"])
    link.send(STREAM, [head + other + b"theirs"])
    link.send(STREAM, [b"short garbage"])
    assert receive(link, 2) == [head + other + b"theirs", b"short garbage"]
    assert link.receive() == []


@pytest.mark.skipif(not LINUX, reason="the filter is Linux's")
@pytest.mark.parametrize("offload", [True, False])
def test_ones_own_datagrams_are_no_kernel_drops_and_hide_none(make_link: MakeLink, offload: bool) -> None:
    own = bytes(range(16))
    link, other = make_link(incarnation=own, offload=offload), make_link(offload=offload)
    mine = bytes(24) + own + bytes(1000)
    for _ in range(5):
        link.send(STREAM, [mine] * 50)
        link.send(CONTROL, [mine])
        other.send(STREAM, [b"theirs"])
        other.send(CONTROL, [b"theirs"])
        assert receive(link, 2) == [b"theirs"] * 2
    assert link.counters.kernel_drops == 0
    for sock in link._hearing:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    for _ in range(400):
        other.send(STREAM, [bytes(1400)])
    heard = len(receive(link, 400, wait_s=0.05))
    link.send(STREAM, [mine] * 50)
    other.send(STREAM, [b"theirs"])
    assert receive(link, 1) == [b"theirs"]
    assert link.counters.kernel_drops == 400 - heard > 0


def test_a_datagram_larger_than_the_interface_carries_is_a_counted_loss(make_link: MakeLink) -> None:
    link = make_link()
    link.send(STREAM, [bytes(65_507)])
    link.send(STREAM, [bytes(65_600)])
    assert sum(link.counters.sends_lost.values()) == 1
    assert set(link.counters.sends_lost) == {"EMSGSIZE"}


def test_a_taken_unicast_address_is_told_with_its_remedy(make_link: MakeLink) -> None:
    port = free_port()
    make_link(unicast_port=port)
    with pytest.raises(EnvironmentProblem, match=rf"127\.0\.0\.1:{port} is in use.*sport = :{port}"):
        make_link(unicast_port=port)


def test_a_group_port_held_exclusively_is_told(make_link: MakeLink) -> None:
    interface = choose_interface("127.0.0.1", "239.77.7.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", 0))
        with pytest.raises(EnvironmentProblem, match="does not share it"):
            sockets.open_group("239.77.7.1", holder.getsockname()[1], interface)


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(EnvironmentProblem, match="this machine has no address"):
        sockets.open_unicast("192.0.2.77", 0)


def test_a_failed_opening_leaves_no_port_behind(make_link: MakeLink) -> None:
    taken, port = free_port(), free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("", taken))
        with pytest.raises(EnvironmentProblem):
            UdpLink(
                group="239.77.7.1", port=taken, interface=choose_interface("127.0.0.1", "239.77.7.1"),
                host="127.0.0.1", unicast_port=port,
            )  # fmt: skip
    make_link(unicast_port=port)


def test_the_window_is_a_cautious_part_of_what_the_kernel_granted(make_link: MakeLink) -> None:
    link = make_link()
    granted = link._hearing[-1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert 0 < link.receive_window <= granted // 4


@pytest.mark.skipif(not LINUX, reason="SO_RXQ_OVFL is Linux's")
def test_the_window_fits_and_what_does_not_fit_is_counted(make_link: MakeLink) -> None:
    sender, receiver = make_link(offload=False), make_link(offload=False)
    for sock in receiver._hearing:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    granted = receiver._hearing[-1].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    fitting = granted // 4 // 1400
    sender.send(STREAM, [bytes(1400)] * fitting)
    assert len(receive(receiver, fitting)) == fitting
    sent = 4 * granted // 1400
    sender.send(STREAM, [bytes(1400)] * sent)
    heard = len(receive(receiver, sent, wait_s=0.05))
    assert 0 < heard < sent
    sender.send(STREAM, [b"x"])  # the count comes with the next datagram
    receive(receiver, 1)
    assert receiver.counters.kernel_drops == sent - heard


async def test_the_loop_calls_when_something_can_be_received(make_link: MakeLink) -> None:
    sender, receiver = make_link(), make_link()
    rung = asyncio.Event()
    receiver.attach(asyncio.get_running_loop(), rung.set)
    sender.send(STREAM, [b"x"])
    async with asyncio.timeout(5):
        await rung.wait()
    assert list(map(bytes, receiver.receive())) == [b"x"]
    receiver.close()
    receiver.close()


async def test_only_sockets_that_have_something_are_asked(make_link: MakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = make_link(), make_link()
    control, unicast, stream = two._hearing
    asked: list[socket.socket] = []
    heard: list[bytes] = []
    drain = two._drain

    def counted(sock: socket.socket, at: int, end: int, into: list[memoryview]) -> int:
        asked.append(sock)
        return drain(sock, at, end, into)

    monkeypatch.setattr(two, "_drain", counted)
    two.attach(asyncio.get_running_loop(), lambda: heard.extend(map(bytes, two.receive())))
    for channel, to, sockets_asked in (
        (UNICAST, address(two), [unicast]),
        (STREAM, None, [stream]),
        (CONTROL, None, [control, stream]),
    ):
        asked.clear()
        one.send(channel, [str(channel).encode()], to)
        async with asyncio.timeout(5):
            while not asked:
                await asyncio.sleep(0)
        assert asked == sockets_asked
    assert heard == [str(channel).encode() for channel in (UNICAST, STREAM, CONTROL)]
    asked.clear()
    assert two.receive() == [] and asked == [control, unicast, stream]


def test_loopback_sends_with_ttl_zero_and_df() -> None:
    sock = sockets.open_sender("239.77.7.1", 7799, choose_interface("127.0.0.1", "239.77.7.1"))
    with sock:
        assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 0
        if LINUX:
            assert sock.getsockopt(socket.IPPROTO_IP, 10) == 3  # IP_MTU_DISCOVER: IP_PMTUDISC_PROBE


def test_ipv6_groups_work_on_loopback_or_name_the_route_that_lacks() -> None:
    """Where the route is there: tests/lan/test_surroundings.py makes a namespace of its own with one."""
    group, port = "ff01::77", free_port()
    interface = choose_interface("127.0.0.1", "239.77.7.1")
    if interface.address(6) is None:
        pytest.skip("this machine's loopback has no IPv6")
    try:
        sender = sockets.open_sender(group, port, interface)
    except EnvironmentProblem as problem:
        assert problem.remedy == "run: ip route add ff01::77 dev lo"
        return
    with sender, sockets.open_group(group, port, interface) as receiver:
        sender.send(b"hello")
        assert select.select([receiver], [], [], 2)[0]
        assert receiver.recv(100) == b"hello"
