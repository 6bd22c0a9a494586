"""The yardstick: what plain Python can do on this machine, without agreement, repair or clients.

Every result stands beside the fabric's own in the same run, so that a slow machine is not mistaken for a slow program.
Processes are spawned, multicast stays on loopback (TTL 0), each measurement is bounded in count and gives one dict.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import socket
import struct
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from hashlib import blake2b
from itertools import islice
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, Final

import msgpack
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcast.bench import pipe
from mcast.bench.group import (
    LOOPBACK,
    BurstSender,
    MeetingPlace,
    group_receiver,
    group_sender,
    segment_size,
    unused_port,
)
from mcast.bench.percentiles import curve_us, summary_us
from mcast.storage.files import RealFiles

HEADER: Final = struct.Struct("!IIQQHH16s")  # epoch, sender, first, commit, count, length, chain before
IP_UDP_BYTES: Final = 28  # IPv4 and UDP headers
KEY: Final = bytes(32)
SEAL_BYTES: Final = 16
SILENCE_S: Final = 10.0  # a receiver that says nothing for this long has died
START_S: Final = 30.0  # for a process to start
RESULT_S: Final = 120.0  # for a process to end its measurement
WINDOW_BYTES: Final = 3 << 20  # in flight
BURST_BYTES: Final = 60_000
AT_ONCE_MAX: Final = 500  # events decoded by one call; of more a streaming Unpacker is faster
SYNC_BYTES: Final = 4_096

YardstickResult = dict[str, Any]


def applied(nodes: int, mtu: int, event_bytes: int, events: int) -> YardstickResult:
    """Events a second through a bare pipeline, applied on every one of `nodes` receivers.

    Frames are packed, chained, sealed and multicast in bursts; receivers open, verify, write to a file, decode, apply
    to a dict and acknowledge each burst; the sender keeps a window. An event that fills more than one datagram goes as
    that many that fill one each, which is less work than cutting it up and putting it together.
    """
    datagram = mtu - IP_UDP_BYTES
    room = datagram - HEADER.size - SEAL_BYTES - 3
    pieces = -(-event_bytes // (room - 2))  # 2: a packed event may be that much larger than asked for
    pad = bytes(max(0, event_bytes // pieces - 16))
    one = len(msgpack.packb(["deposit", 999, 100, pad]))
    count = max(1, room // one)
    with _Crew(_applier, nodes, events * pieces) as crew:
        out = crew.stack.enter_context(BurstSender(crew.place.group_port, datagram))
        burst = [["deposit", index % 1000, 100 + index % 7, pad] for index in range(count)]
        began = time.perf_counter()
        numbered = _send_all(out, crew, burst, -(-events * pieces // count))
        ends = [crew.next() for _ in range(nodes)]
        took = max(end for end, _ in ends) - began
    return {
        "yardstick": "applied on every replica", "nodes": nodes, "mtu": mtu, "bytes_per_event": one * pieces,
        "events_per_s": round(numbered / pieces / took), "mb_per_s": round(numbered * one / took / 1e6),
        "same_chain": len({chain for _, chain in ends}) == 1,
    }  # fmt: skip


def _send_all(out: BurstSender, crew: _Crew, events: list[Any], frames: int) -> int:
    """Send `frames` frames of the same events, never more than the window ahead of the slowest; events numbered."""
    pack, seal, chain, first, sent = msgpack.Packer().pack, AESGCM(KEY), bytes(16), 0, 0
    burst = max(1, min(60, BURST_BYTES // out.size))
    ahead = WINDOW_BYTES // out.size * len(events)
    while sent < frames:
        datagrams = []
        for _ in range(min(burst, frames - sent)):
            body = pack(events)
            header = HEADER.pack(1, 1, first, 0, len(events), len(body) + SEAL_BYTES, chain)
            chain = blake2b(body, digest_size=16, key=chain).digest()
            sealed = seal.encrypt(first.to_bytes(12, "big"), body, header)
            datagrams.append(header + sealed + bytes(out.size - HEADER.size - len(sealed)))
            first += len(events)
            sent += 1
        out.send(datagrams)
        crew.wait_for(first - ahead)
    return first


def _applier(index: int, place: MeetingPlace, mailbox: Any, events: int) -> None:
    with ExitStack() as stack:
        sock = stack.enter_context(group_receiver(place.group_port, gro=True))
        ack = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        ack.connect((LOOPBACK, place.ack_port))
        journal = stack.enter_context(open(f"{place.folder}/{index}", "wb", buffering=0))
        buffer = bytearray(65_536)
        view, seal, balance = memoryview(buffer), AESGCM(KEY), dict[int, int]()

        def deposit(account: int, amount: int, pad: bytes) -> None:
            balance[account] = balance.get(account, 0) + amount

        handlers, expected, chain, unpacker = {"deposit": deposit}, 0, bytes(16), msgpack.Unpacker()
        mailbox.put("ready")
        while expected < events:
            size, ancillary, _, _ = sock.recvmsg_into([buffer], 64)
            step = segment_size(ancillary) or size
            for at in range(0, size, step):
                *_, first, _, count, length, before = HEADER.unpack_from(buffer, at)
                if first != expected or before != chain:
                    raise SystemExit(f"lost a frame: expected event {expected}, got {first}")
                start = at + HEADER.size
                body = seal.decrypt(first.to_bytes(12, "big"), view[start : start + length], view[at:start])
                chain = blake2b(body, digest_size=16, key=chain).digest()
                if count <= AT_ONCE_MAX:
                    commands: Iterable[Any] = msgpack.unpackb(body)
                else:
                    unpacker.feed(body)
                    commands = islice(unpacker, unpacker.read_array_header())
                for name, account, amount, pad in commands:
                    handlers[name](account, amount, pad)
                expected += count
            journal.write(view[:size])
            ack.send(expected.to_bytes(8, "big"))
        mailbox.put((time.perf_counter(), chain))


def round_trip(nodes: int, rounds: int = 4_000) -> YardstickResult:
    """Multicast out, and every receiver's answer back, one at a time."""
    with _Crew(_echoer, nodes) as crew:
        out = group_sender(crew.place.group_port)
        crew.stack.callback(out.close)
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            out.send(b"x" * 64)
            for _ in range(nodes):
                crew.acks.recv(2_048)
            took.append(time.perf_counter() - began)
        out.send(b"stop")
    return {"yardstick": "multicast out, every ack back", "nodes": nodes, "took_us": summary_us(took)}


def _echoer(index: int, place: MeetingPlace, mailbox: Any) -> None:
    with group_receiver(place.group_port) as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ack:
        ack.connect((LOOPBACK, place.ack_port))
        mailbox.put("ready")
        while (data := sock.recv(2_048)) != b"stop":
            ack.send(data)


def one_at_a_time(rounds: int = 4_000, command_bytes: int = 24) -> YardstickResult:
    """A command at a time through a bare asyncio pipe of the fabric's shape; one acknowledgement of two is awaited."""
    with _Crew(pipe.member, 2) as crew:
        sequencer = crew.spawn(pipe.sequencer, crew.acks, crew.place, crew.mailbox, command_bytes)
        took = pipe.time_client(crew.next(), rounds, command_bytes)
        sequencer.join(SILENCE_S)
    what = "asyncio pipe, TCP in, sealed multicast, journalled ack, reply"
    return {"yardstick": what, "took_us": summary_us(took), "curve_us": curve_us(took)}


def sync_cost(folder: Path | str, writers: int, rounds: int = 300) -> YardstickResult:
    """Write 4 KiB and fdatasync, `writers` processes at once, into files in `folder` (removed again).

    As a journal does, into space that is reserved and not yet written. Nobody starts before all can: a process takes
    longer to start than to do this.
    """
    gate = multiprocessing.get_context("spawn").Barrier(writers)
    with _Crew(_sync_writer, writers, str(folder), rounds, gate) as crew:
        took = [one for _ in range(writers) for one in crew.next()]
    return {"yardstick": "write 4 KiB + fdatasync", "writers": writers, "took_us": summary_us(took)}


def _sync_writer(index: int, place: MeetingPlace, mailbox: Any, folder: str, rounds: int, gate: Barrier) -> None:  # noqa: PLR0913 - as of every crew
    took = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix="yardstick.") as file:
        handle, block = file.fileno(), bytes(SYNC_BYTES)
        RealFiles().allocate(handle, SYNC_BYTES * rounds)
        os.fsync(handle)
        sync = getattr(os, "fdatasync", os.fsync)
        mailbox.put("ready")
        gate.wait(START_S)
        for at in range(rounds):
            began = time.perf_counter()
            os.pwrite(handle, block, at * SYNC_BYTES)
            sync(handle)
            took.append(time.perf_counter() - began)
    mailbox.put(took)


class _Crew:
    """Spawned processes that have said "ready", their acknowledgements and their mailbox."""

    def __init__(self, target: Callable[..., None], size: int, *extra: object) -> None:
        self._context = multiprocessing.get_context("spawn")
        self.stack: ExitStack
        self._target, self._size, self._extra = target, size, extra
        self._processes: list[Any] = []
        self._seen: dict[Any, int] = {}
        self._early: deque[Any] = deque()

    def __enter__(self) -> _Crew:
        with ExitStack() as stack:  # what fails here, or is interrupted, leaves nothing either
            self.mailbox = self._context.Queue()
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mcast-yardstick-"))
            self.acks = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            self.acks.bind((LOOPBACK, 0))
            self.acks.settimeout(SILENCE_S)
            self.place = MeetingPlace(unused_port(), self.acks.getsockname()[1], folder)
            stack.push(self._end_processes)
            for index in range(self._size):
                self.spawn(self._target, index, self.place, self.mailbox, *self._extra)
            ready = 0
            while ready < self._size:  # the first may be done before the last is ready
                message = self.mailbox.get(timeout=START_S)
                if message == "ready":
                    ready += 1
                else:
                    self._early.append(message)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self.stack.__exit__(*raised)

    def _end_processes(self, kind: object, error: object, trace: object) -> None:
        for process in self._processes:
            if kind is not None:
                process.terminate()
            process.join(SILENCE_S)

    def spawn(self, target: Callable[..., None], *arguments: object) -> Any:
        """One more process; it ends with this one."""
        process = self._context.Process(target=target, args=arguments, daemon=True)
        process.start()
        self._processes.append(process)
        return process

    def next(self) -> Any:
        """The next message that is not "ready"."""
        return self._early.popleft() if self._early else self.mailbox.get(timeout=RESULT_S)

    def wait_for(self, number: int) -> None:
        """Take in acknowledgements until every process has acknowledged `number`.

        Raises:
            TimeoutError: one says nothing for too long.
        """
        while True:
            slowest = min(self._seen.values()) if len(self._seen) == self._size else 0
            if not select.select([self.acks], [], [], SILENCE_S if slowest < number else 0)[0]:
                if slowest < number:
                    raise TimeoutError("a receiver stopped acknowledging")
                return
            data, source = self.acks.recvfrom(16)
            self._seen[source] = int.from_bytes(data, "big")


def measurements(nodes: int, events: int, folder: Path) -> dict[str, Callable[[], YardstickResult]]:
    """Every measurement by name; none is made before it is called. `folder` is where syncs are measured."""
    return {
        "small": lambda: applied(nodes, 1_500, 16, events),
        "small-jumbo": lambda: applied(nodes, 9_000, 16, events),
        "256": lambda: applied(nodes, 1_500, 256, max(1, events // 8)),
        "1024": lambda: applied(nodes, 1_500, 1_024, max(1, events // 20)),
        "round-trip": lambda: round_trip(nodes),
        "pipe": one_at_a_time,
        "sync": lambda: sync_cost(folder, 1),
        "sync-all": lambda: sync_cost(folder, nodes),
    }
