"""The client against a server that has its answers ready, in whatever pieces."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mcast.bench.job import BrokenRun
from tools.other_systems.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GO_AWAY,
    HEADERS,
    PING,
    PREFACE,
    RESET,
    SETTINGS,
    WINDOW_START,
    WINDOW_UPDATE,
    Http2,
    frame,
    frames,
    header_block,
)


def grpc(message: bytes) -> bytes:
    return b"\0" + struct.pack("!I", len(message)) + message


def test_frames_come_back_and_a_cut_one_waits() -> None:
    data = frame(DATA, END_STREAM, 5, b"abc") + frame(PING, 0, 0, bytes(8))
    assert data[:9].hex() == "000003000100000005"
    assert list(frames(data)) == [(DATA, END_STREAM, 5, b"abc", 12), (PING, 0, 0, bytes(8), 29)]
    for cut in range(12, 29):
        assert [end for *_, end in frames(data[:cut])] == [12]


def test_the_headers_of_a_call_need_no_memory() -> None:
    block = header_block("/a.B/C")
    assert block.startswith(b"\x83\x86\x04\x06/a.B/C")
    assert block.endswith(b"\x0f\x10\x10application/grpc\x00\x02te\x08trailers")


@contextmanager
def connection(*answers: bytes) -> Iterator[tuple[Http2, list[bytes]]]:
    """A client, and what the server has heard by the end; the server gives one of `answers` at a time."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            server, _ = listener.accept()
            with server:
                for answer in answers:
                    server.sendall(answer)
                server.shutdown(socket.SHUT_WR)
                while data := server.recv(65_536):
                    heard.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        client = Http2("127.0.0.1", listener.getsockname()[1])
        try:
            yield client, heard
        finally:
            client.close()
            thread.join(10)


def gathered(client: Http2, count: int) -> list[bytes]:
    answers: list[bytes] = []
    while len(answers) < count:
        answers += client.read()
    return answers


def test_a_call_is_answered_however_it_comes_in_pieces() -> None:
    body = grpc(b"first") + grpc(b"") + grpc(b"third")
    whole = (
        frame(HEADERS, END_HEADERS, 1, b"\x88")
        + b"".join(frame(DATA, 0, 1, body[at : at + 3]) for at in range(0, len(body), 3))
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88")
    )
    with connection(*[whole[at : at + 5] for at in range(0, len(whole), 5)]) as (client, heard):
        call = client.call(header_block("/a"), b"ask")
        client.write(call)
        assert gathered(client, 3) == [b"first", b"", b"third"]
    said = b"".join(heard)
    assert said.startswith(PREFACE)
    assert said.endswith(call)
    kinds = [(kind, flags, stream) for kind, flags, stream, _, _ in frames(said[len(PREFACE) :])]
    assert kinds == [(SETTINGS, 0, 0), (WINDOW_UPDATE, 0, 0), (HEADERS, END_HEADERS, 1), (DATA, END_STREAM, 1)]


def test_pings_and_settings_are_acknowledged() -> None:
    asked = frame(SETTINGS, 0, 0, b"") + frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"87654321")
    with connection(asked + frame(DATA, 0, 1, grpc(b"done"))) as (client, heard):
        assert gathered(client, 1) == [b"done"]
    assert b"".join(heard).endswith(frame(SETTINGS, ACK, 0, b"") + frame(PING, ACK, 0, b"12345678"))


def test_no_more_is_sent_than_the_server_has_room_for() -> None:
    grant = frame(WINDOW_UPDATE, 0, 0, struct.pack("!I", 100)) + frame(WINDOW_UPDATE, 0, 1, struct.pack("!I", 900))
    with connection(grant + frame(DATA, 0, 1, grpc(b""))) as (client, _):
        assert client.fits(WINDOW_START - 5)
        assert not client.fits(WINDOW_START - 4)
        client.call(b"", bytes(WINDOW_START - 5))
        assert not client.fits(0)
        gathered(client, 1)
        assert client.fits(95)
        assert not client.fits(96), "another stream's room is not ours"


@pytest.mark.parametrize(
    ("reported", "words"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x88"), "refused a call"),
        (frame(GO_AWAY, 0, 0, bytes(8) + b"too_many_pings"), "too_many_pings"),
        (frame(RESET, 0, 1, bytes(4)), "ended the call"),
        (b"", "closed the connection"),
    ],
)
def test_a_server_that_refuses_breaks_the_run(reported: bytes, words: str) -> None:
    with connection(reported) as (client, _), pytest.raises(BrokenRun, match=words):
        client.read()
