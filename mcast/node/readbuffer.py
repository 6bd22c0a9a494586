"""The read buffer of a TLS connection: asyncio gives each one 256 KiB for life, ten thousand idle clients 2.6 GB."""

from __future__ import annotations

import asyncio
from typing import Any, Final

READ_BYTES: Final = 256 << 10  # asyncio's own choice, for connections that carry much
LEAN_BYTES: Final = 4 << 10  # for those that say little


def set_read_buffer(transport: asyncio.Transport, size: int) -> bool:
    """Have at most `size` bytes read at a time, and hold no more memory for it; call it from the protocol's callbacks.

    Whether that was done: not for a connection without TLS, which holds no buffer, nor for an event loop that keeps it
    elsewhere than asyncio's does.
    """
    tls: Any = getattr(transport, "_ssl_protocol", None)
    if not hasattr(tls, "_ssl_buffer") or not hasattr(tls, "max_size"):
        return False
    tls.max_size = size
    tls._ssl_buffer = bytearray(size)
    tls._ssl_buffer_view = memoryview(tls._ssl_buffer)
    return True
