"""A bare asyncio pipe of the fabric's shape: TCP in, sealed multicast out, a journalled acknowledgement, the reply.

It bounds from below how long one command at a time can take in this language on this machine.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcast.bench.group import LOOPBACK, MeetingPlace, group_receiver, group_sender

_KEY: Final = bytes(32)
_NONCE_BYTES: Final = 12
COMMAND_BYTES_MAX: Final = 60_000  # one command is one datagram
_RECEIVE_BYTES: Final = 65_536
_STOP: Final = b"stop"
_REPLY_BYTES: Final = 8


def member(index: int, place: MeetingPlace, mailbox: Any) -> None:
    """A process that opens, journals and acknowledges each datagram until told to stop."""

    async def run() -> None:
        loop, seal, over = asyncio.get_running_loop(), AESGCM(_KEY), asyncio.Event()
        sock, ack = group_receiver(place.group_port), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        ack.connect((LOOPBACK, place.ack_port))
        sock.setblocking(False)
        journal = os.open(f"{place.folder}/pipe-{index}", os.O_CREAT | os.O_WRONLY)

        def readable() -> None:
            data = sock.recv(_RECEIVE_BYTES)
            if data == _STOP:
                over.set()
                return
            nonce = data[:_NONCE_BYTES]
            os.write(journal, seal.decrypt(nonce, data[_NONCE_BYTES:], None))
            ack.send(nonce + seal.encrypt(_ack_nonce(nonce), nonce[:8], None))

        loop.add_reader(sock, readable)
        mailbox.put("ready")
        await over.wait()
        loop.remove_reader(sock)
        sock.close()
        ack.close()
        os.close(journal)

    asyncio.run(run())


def sequencer(acks: socket.socket, place: MeetingPlace, mailbox: Any, command_bytes: int) -> None:
    """A process that serves one TCP connection; one acknowledgement (with its own, two of three) answers."""

    async def run() -> None:
        loop, seal, over = asyncio.get_running_loop(), AESGCM(_KEY), asyncio.Event()
        out = group_sender(place.group_port)
        journal = os.open(f"{place.folder}/pipe-sequencer", os.O_CREAT | os.O_WRONLY)
        acks.setblocking(False)
        waiting: dict[bytes, asyncio.StreamWriter] = {}

        def on_acknowledged() -> None:
            data = acks.recv(2_048)
            nonce = data[:_NONCE_BYTES]
            seal.decrypt(_ack_nonce(nonce), data[_NONCE_BYTES:], None)
            if (writer := waiting.pop(nonce, None)) is not None:
                writer.write(nonce[:_REPLY_BYTES])

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            counter = 0
            while command := await _read_command(reader, command_bytes):
                counter += 1
                nonce = counter.to_bytes(_NONCE_BYTES, "big")
                waiting[nonce] = writer
                out.send(nonce + seal.encrypt(nonce, command, None))
                os.write(journal, command)
            writer.close()
            over.set()

        loop.add_reader(acks, on_acknowledged)
        server = await asyncio.start_server(serve, LOOPBACK, 0)
        mailbox.put(server.sockets[0].getsockname()[1])
        await over.wait()
        loop.remove_reader(acks)
        out.send(_STOP)
        server.close()
        out.close()
        os.close(journal)

    asyncio.run(run())


async def _read_command(reader: asyncio.StreamReader, size: int) -> bytes:
    """The next command, nothing at the connection's end; small ones come whole, as the fabric's own do."""
    command = await reader.read(_RECEIVE_BYTES)
    while command and len(command) < size:
        command += await reader.readexactly(size - len(command))
    return command


def time_client(port: int, rounds: int, command_bytes: int) -> list[float]:
    """Seconds each of `rounds` commands took, sent one at a time over one TCP connection."""
    command = b"x" * command_bytes

    async def run() -> list[float]:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        took = []
        for _ in range(rounds):
            began = time.perf_counter()
            writer.write(command)
            await reader.readexactly(_REPLY_BYTES)
            took.append(time.perf_counter() - began)
        writer.close()
        await writer.wait_closed()
        return took

    return asyncio.run(run())


def _ack_nonce(nonce: bytes) -> bytes:
    """The acknowledgement's nonce: never the command's own under the same key."""
    return b"a" + nonce[1:]
