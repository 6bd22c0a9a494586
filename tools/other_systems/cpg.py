"""As much of libcpg, Corosync's closed process groups, as a member needs that sends and delivers."""

from __future__ import annotations

import ctypes
import select
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Final

_LIBRARY: Final = "libcpg.so.4"
_AGREED: Final = 2  # delivery guarantee; a stronger one exists in name only
_ALL: Final = 2  # dispatch: whatever is there, without waiting
_OK: Final = 1
_TRY_AGAIN: Final = 6


class _Name(ctypes.Structure):
    _fields_ = (("length", c_uint32), ("value", ctypes.c_char * 128))


class _Iovec(ctypes.Structure):
    _fields_ = (("base", c_char_p), ("length", c_size_t))


_Deliver = ctypes.CFUNCTYPE(None, c_uint64, c_void_p, c_uint32, c_uint32, c_void_p, c_size_t)
_Change = ctypes.CFUNCTYPE(None, c_uint64, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_size_t)


class _Callbacks(ctypes.Structure):
    _fields_ = (("deliver", _Deliver), ("change", _Change))


class CpgGroup:
    """Membership of the group `name`, through the daemon of this process's network namespace.

    `deliver` hears each message in the agreed order, while `dispatch` runs. Raises OSError where libcpg refuses.
    """

    def __init__(self, name: bytes, deliver: Callable[[bytes], None]) -> None:
        self.members = 0
        """How many there are now."""
        string_at = ctypes.string_at

        def on_delivered(*result: int) -> None:
            deliver(string_at(result[4], result[5]))

        def on_changed(*result: int) -> None:
            self.members = result[3]

        self._callbacks = _Callbacks(
            _Deliver(on_delivered), _Change(on_changed)
        )  # kept: the library holds only pointers
        self._library = ctypes.CDLL(_LIBRARY)
        self._library.cpg_mcast_joined.argtypes = (c_uint64, c_int, POINTER(_Iovec), c_uint32)
        self._library.cpg_dispatch.argtypes = (c_uint64, c_int)
        handle, descriptor = c_uint64(), c_int()
        _check("cpg_initialize", self._library.cpg_initialize(byref(handle), byref(self._callbacks)))
        self._handle = handle.value
        _check("cpg_join", self._library.cpg_join(handle, byref(_Name(len(name), name))))
        _check("cpg_fd_get", self._library.cpg_fd_get(handle, byref(descriptor)))
        self._ready = select.poll()
        self._ready.register(descriptor.value, select.POLLIN)

    def send(self, message: bytes) -> bool:
        """Multicast a message in the agreed order; False if the daemon can take no more now."""
        result = self._library.cpg_mcast_joined(self._handle, _AGREED, byref(_Iovec(message, len(message))), 1)
        if result == _TRY_AGAIN:
            return False
        _check("cpg_mcast_joined", result)
        return True

    def dispatch(self, wait_s: float = 0.0) -> None:
        """Deliver what has come; wait so long for something, if there is nothing."""
        if wait_s:
            self._ready.poll(wait_s * 1_000)
        result = self._library.cpg_dispatch(self._handle, _ALL)
        if result != _TRY_AGAIN:
            _check("cpg_dispatch", result)


def _check(call: str, result: int) -> None:
    if result != _OK:
        raise OSError(f"{call}: error {result}")
