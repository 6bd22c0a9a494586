"""TLS on a TCP connection, between asyncio's transport and one of our protocols.

asyncio has a layer for that itself. It costs a small message some 10 us more at each end, where a whole command takes
600, and each connection a read buffer of 256 KiB for life.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Any, Final, Protocol, cast

from mcast.net.handshakes import Handshakes

READ_BYTES: Final = 256 << 10  # taken from the socket at a time
RECORD_BYTES: Final = 16 << 10  # plain bytes of a TLS record, at most: reading as many leaves nothing of it behind
_PLAIN_BYTES: Final = READ_BYTES + RECORD_BYTES  # the most that a read completes: with what an earlier one left
WRITE_BUFFER_BYTES: Final = 512 << 10  # beyond this a writer is told to wait, as by asyncio's own layer
UNAGREED_BYTES_MAX: Final = 64 << 10  # read while a handshake waits for its turn; its own flights have 2 KiB
GOODBYE_S: Final = 10.0  # after `close`, for what was written to leave and for the other side to close too


class _Buffers(threading.local):
    """One of each for each thread, so for each event loop: what is read is handed on before anything else is."""

    def __init__(self) -> None:
        self.sealed = memoryview(bytearray(READ_BYTES))
        self.plain = memoryview(bytearray(_PLAIN_BYTES))


_buffers: Final = _Buffers()


class Inner(Protocol):
    """An asyncio.Protocol that keeps nothing of `data` beyond the call but copies."""

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...  # noqa: D102
    def data_received(self, data: memoryview, /) -> None: ...  # noqa: D102
    def pause_writing(self) -> None: ...  # noqa: D102
    def resume_writing(self) -> None: ...  # noqa: D102
    def connection_lost(self, exc: Exception | None, /) -> None: ...  # noqa: D102


class Secured(asyncio.BufferedProtocol, asyncio.Transport):
    """The protocol of a TCP connection, and the transport of `inner`, which hears of it at once.

    What `inner` writes before the handshake is over leaves right after it. A handshake or a record that fails ends the
    connection, without a word to the other side; `connection_lost` is given the SSLError. The owner limits how long a
    handshake may take; a `queue`, if given, says when its steps are taken. Extra information: "sslcontext", and once
    the handshake is over "ssl_object".
    """

    def __init__(
        self, inner: Inner, context: ssl.SSLContext, *, server_side: bool = False, queue: Handshakes | None = None
    ) -> None:
        super().__init__()
        self._queue = queue
        self._steps = 0
        """Steps of the handshake that the other side has caused."""
        self._inner = inner
        self._context = context
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._raw: asyncio.Transport
        self._agreed = False
        """Whether the handshake is over."""
        self._early: list[bytes] = []
        """What was written before that."""
        self._closing = False
        self._error: Exception | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce `inner`, begin the handshake."""
        self._raw = cast(asyncio.Transport, transport)  # uvloop's are of no class of asyncio's
        self._raw.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._inner.connection_made(self)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """The buffer into which the socket's bytes are read."""
        return _buffers.sealed

    def buffer_updated(self, nbytes: int) -> None:
        """Decrypt the bytes and hand them to `inner`."""
        if self._closing:
            return
        self._incoming.write(_buffers.sealed[:nbytes])
        if not self._agreed and self._queue is not None:
            if self._incoming.pending > UNAGREED_BYTES_MAX:
                self._raw.pause_reading()
            self._queue.add(self._step, begins=not self._steps)
            self._steps += 1
        else:
            self._step()

    def _step(self) -> None:
        if self._closing:
            return
        if not self._agreed:
            agreed = self._shake_hands()
            if self._queue is not None:
                self._raw.resume_reading()
            if not agreed:
                return
        self._read()

    def eof_received(self) -> None:
        """The other side is gone: the connection closes."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell `inner` why."""
        self._closing = True
        if self._goodbye is not None:
            self._goodbye.cancel()
        ended = exc if self._agreed else exc or ConnectionResetError("closed during the TLS handshake")
        self._inner.connection_lost(self._error or ended)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._inner.resume_writing()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.Transport."""
        if self._closing:
            return
        if not self._agreed:
            self._early.append(bytes(data))
            return
        self._encrypt(data)
        self._raw.write(self._outgoing.read())

    def close(self) -> None:
        """See asyncio.Transport; closed in the middle of a handshake, it is aborted."""
        if self._closing:
            return
        if not self._agreed:
            self.abort()
            return
        self._closing = True
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._raw.write(self._outgoing.read())
        with suppress(OSError):  # the other side reset the connection, and nobody has read that yet
            self._raw.write_eof()
        self._raw.resume_reading()  # to see its end, unread
        self._goodbye = asyncio.get_running_loop().call_later(GOODBYE_S, self._raw.abort)

    def abort(self) -> None:
        """See asyncio.Transport."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self._closing or self._raw.is_closing()

    def is_reading(self) -> bool:
        """See asyncio.Transport."""
        return self._raw.is_reading()

    def pause_reading(self) -> None:
        """See asyncio.Transport."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """See asyncio.Transport."""
        self._raw.resume_reading()

    def get_write_buffer_size(self) -> int:
        """See asyncio.Transport."""
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio.Transport."""
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.Transport."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._tls if self._agreed else default
        return self._raw.get_extra_info(name, default)

    def _shake_hands(self) -> bool:
        """Go on with the handshake; whether it is over."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._raw.write(self._outgoing.read())
            return False
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._agreed = True
        early, self._early = self._early, []
        for data in early:
            self._encrypt(data)
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())
        return True

    def _read(self) -> None:
        """Hand on every whole record that came."""
        read, incoming, plain = self._tls.read, self._incoming, _buffers.plain
        end = 0
        ended = False
        try:
            while incoming.pending and not ended:
                size: Any = read(RECORD_BYTES, plain[end:])  # a number, given a buffer; typeshed has it as bytes
                end += size
                ended = not size
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._outgoing.pending:
            self._raw.write(self._outgoing.read())
        if end:
            self._inner.data_received(plain[:end])
        if ended:
            self.close()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        """A record at a time."""
        written = self._tls.write(data)
        while written < len(data):
            written += self._tls.write(memoryview(data)[written:])

    def _fail(self, error: ssl.SSLError) -> None:
        self._error = error.with_traceback(None)  # its frames hold this object, and so all that it buffers
        self.abort()
