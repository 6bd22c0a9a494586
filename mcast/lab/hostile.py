"""What an enemy on the LAN could send without the key: garbage, damaged and replayed datagrams, and nonsense over TCP.

For a cluster on this machine's loopback only, so that a slip of the hand floods nobody else. Seeded: one seed and one
recording give one attack. Nothing here forges a valid seal or checksum; whoever can is a node (see PROTOCOL.md).

    record (join the groups, listen) -> Hostile (a generator over the recording) -> flood, assail_tcp
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import random
import selectors
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError
from mcast.limits import TCP_MESSAGE_BYTES_MAX
from mcast.net import sockets
from mcast.net.interfaces import Interface, choose_interface
from mcast.net.link import PeerAddress
from mcast.wire.envelope import ENVELOPE_BYTES
from mcast.wire.records import RecordKind, encode_record
from mcast.wire.stream import Ask, Hello, StreamKind, pack_message, pack_raw

WAYS: Final = ("garbage", "truncated", "flipped", "replayed")
"""What is done to a datagram, equally often."""
DATAGRAM_BYTES_MAX: Final = 60_000  # bytes of the largest garbage: what a datagram on loopback carries
CHUNK: Final = 64  # datagrams between two looks at the clock
REFUSED_TRIES: Final = 100  # times one datagram is offered to a full send buffer, a millisecond apart
ANSWER_S: Final = 3.0  # a node has closed a nonsensical connection by then
LIES: Final = b"\x98\x01\xa3get" + b"\xdc\x0f\xff" * 900  # arrays in one another, each larger than all the bytes
_FILTERED: Final = slice(24, 24 + sockets.IGNORED_BYTES)
_SIZES: Final = ((0, 55), (56, 140), (56, 1_472), (1_472, DATAGRAM_BYTES_MAX))
_SIZE_WEIGHTS: Final = (30, 30, 39, 1)


@dataclass(slots=True)
class Sent:
    """What a flood sent."""

    ways: Counter[str] = field(default_factory=Counter)
    ports: Counter[str] = field(default_factory=Counter)
    """By where it went: "239.77.7.1:7700"."""
    claimed: Counter[bytes] = field(default_factory=Counter)
    """To the groups, by the beginning of the incarnation they claim: the kernel keeps these from that very process."""
    seconds: float = 0.0


class Hostile:
    """Draws hostile datagrams and byte streams. `recorded` are real datagrams of the cluster; at least one.

    Raises:
        ValueError: nothing was recorded.
    """

    def __init__(self, recorded: Sequence[bytes], seed: int) -> None:
        if not recorded:
            raise ValueError("nothing was recorded: does the cluster run?")
        self._recorded = list(recorded)
        self._random = random.Random(seed)

    def datagram(self) -> tuple[str, bytes]:
        """One datagram, and which of WAYS it is."""
        draw = self._random
        way = draw.choice(WAYS)
        if way == "garbage":
            return way, draw.randbytes(draw.randint(*draw.choices(_SIZES, _SIZE_WEIGHTS)[0]))
        valid = draw.choice(self._recorded)
        if way == "truncated":
            return way, valid[: draw.randrange(len(valid))]
        if way == "flipped":
            flipped = bytearray(valid)
            # Header and body have their own checks: half of the damage is done to each.
            end = ENVELOPE_BYTES * 2 if draw.random() < 0.5 else len(flipped)
            for bit in {draw.randrange(min(end, len(flipped)) * 8) for _ in range(draw.choice((1, 1, 2, 8)))}:
                flipped[bit // 8] ^= 1 << bit % 8
            return way, bytes(flipped)
        return way, valid

    def stream(self, cluster: str) -> bytes:
        """What a connection says before it falls silent: noise, a lying length, a stranger, an impostor, a flood."""
        draw = self._random
        length = draw.choice((0, 1, 2**32 - 1, TCP_MESSAGE_BYTES_MAX + 1, draw.randrange(2**32)))
        noise = draw.randbytes(draw.randrange(1, 2_000))
        hello = pack_message(StreamKind.HELLO, Hello(1, cluster, "client", "", bytes(16)))
        return draw.choice((
            noise,
            struct.pack("!IB", length, draw.randrange(256)) + noise,
            b"GET / HTTP/1.1\r\nHost: mcast\r\n\r\n",
            pack_message(StreamKind.HELLO, Hello(99, cluster, "client", "", bytes(16))),
            pack_message(StreamKind.HELLO, Hello(1, cluster + "x", "peer", "n1", bytes(16))),
            hello + struct.pack("!IB", len(noise) + 1, draw.randrange(256)) + noise,
            hello + struct.pack("!IB", len(noise) + 1, StreamKind.SUBMIT) + noise,
            hello + struct.pack("!IB", length, StreamKind.SUBMIT) + noise,
            hello + pack_message(StreamKind.STATUS, Ask(1)) * draw.randrange(1, 5_000) + noise,
            hello + pack_raw(StreamKind.QUERY, LIES),
            hello + pack_raw(StreamKind.SUBMIT, encode_record(RecordKind.COMMANDS, 1, 1, 1, 1, LIES[:1_000])),
        ))  # fmt: skip


def loopback(config: Config) -> Interface:
    """The loopback interface that this cluster lives on.

    Raises:
        ConfigError: a node's address or an interface is not loopback.
    """
    fix = "attack a cluster on 127.0.0.1 only"
    for node in config.nodes:
        host = sockets.resolve(node.host, node.port)[0]
        if not ipaddress.ip_address(host).is_loopback:
            raise ConfigError(f"node[{node.id}].address", node.address, "not loopback", fix)
        interface = choose_interface(config.interface_of(node.id), config.group, near=node.host)
        if not interface.loopback:
            raise ConfigError("interface", config.interface_of(node.id), "not loopback", fix)
    return interface


def record(config: Config, count: int, timeout_s: float) -> list[bytes]:
    """Real datagrams of the cluster's two groups: up to `count`, or what comes within `timeout_s` seconds.

    Raises:
        ConfigError: not a loopback cluster. EnvironmentProblem: the groups cannot be joined.
    """
    interface = loopback(config)
    heard: list[bytes] = []
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        for port in (config.port, config.port + 1):
            sock = stack.enter_context(contextlib.closing(sockets.open_group(config.group, port, interface)))
            selector.register(sock, selectors.EVENT_READ)
        while len(heard) < count and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                with contextlib.suppress(BlockingIOError):
                    heard.append(key.fileobj.recv(65_536))
    return heard


def flood(config: Config, hostile: Hostile, per_port: int, rate: float) -> Sent:
    """Send `per_port` datagrams to each port: both groups and every node's own; `rate` datagrams/s in all. Blocks.

    Raises:
        ConfigError: not a loopback cluster. OSError: something cannot be sent.
    """
    interface, sent = loopback(config), Sent()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        targets: list[tuple[socket.socket, PeerAddress | None, str]] = []
        for port in (config.port, config.port + 1):
            group = stack.enter_context(contextlib.closing(sockets.open_sender(config.group, port, interface)))
            targets.append((group, None, f"{config.group}:{port}"))
        for node in config.nodes:
            peer = sockets.resolve(node.host, node.port)
            family = socket.AF_INET6 if len(peer) == 4 else socket.AF_INET
            targets.append((stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)), peer, node.address))
        for number, (sock, to, name) in enumerate(_in_turn(targets, per_port)):
            if number % CHUNK == 0:
                time.sleep(max(began + number / rate - time.monotonic(), 0))
            way, datagram = hostile.datagram()
            _send(sock, datagram, to)
            sent.ways[way] += 1
            sent.ports[name] += 1
            if to is None and len(datagram) >= _FILTERED.stop:
                sent.claimed[datagram[_FILTERED]] += 1
    sent.seconds = time.monotonic() - began
    return sent


async def assail_tcp(config: Config, hostile: Hostile, connections: int) -> int:
    """Open connections to every node, one after the other, talk nonsense on each and wait until the node closes it.

    Returns how many were not closed within ANSWER_S.

    Raises:
        ConfigError: not a loopback cluster.
    """
    loopback(config)
    left_open = 0
    for _ in range(connections):
        for node in config.nodes:
            left_open += not await _speak(node, hostile.stream(config.name))
    return left_open


def _in_turn(
    targets: Sequence[tuple[socket.socket, PeerAddress | None, str]], rounds: int
) -> Iterator[tuple[socket.socket, PeerAddress | None, str]]:
    for _ in range(rounds):
        yield from targets


def _send(sock: socket.socket, datagram: bytes, peer: PeerAddress | None) -> None:
    for _ in range(REFUSED_TRIES):
        try:
            sock.send(datagram) if peer is None else sock.sendto(datagram, peer)
        except BlockingIOError:
            time.sleep(0.001)
        except ConnectionRefusedError:  # the answer to an earlier one: that node is down just now
            continue
        else:
            return


async def _speak(node: NodeConfig, words: bytes) -> bool:
    """Whether the node closed the connection, or refused it."""
    try:
        reader, writer = await asyncio.open_connection(node.host, node.port)
    except OSError:
        return True
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(words)
            writer.write_eof()
            while await reader.read(65_536):
                pass
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return True
