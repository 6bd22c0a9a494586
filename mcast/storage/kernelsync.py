"""fdatasync in the background without a thread: Linux carries it out and says so on an eventfd.

A thread would have to take Python's lock from the one that applies events, to begin and again to end, and wait for it
for milliseconds. The calls (`io_submit` of an FDSYNC, since Linux 4.18) have no name in libc, so they go by number.
Where they are not to be had, `open_kernel_sync` says so.
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import sys
from typing import Final

from mcast.storage.descriptors import keep, open_own

_CALLS: Final = {
    "x86_64": (206, 207, 208, 209),
    "aarch64": (0, 1, 4, 2),
}  # io_setup, io_destroy, io_getevents, io_submit
_FSYNC: Final = 2
_FDSYNC: Final = 3
_TELL_EVENTFD: Final = 1


class _Order(ctypes.Structure):
    """`struct iocb` of a little-endian machine."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_int32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("fd", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("eventfd", ctypes.c_uint32),
    )


class _Outcome(ctypes.Structure):
    """`struct io_event`."""

    _fields_ = (
        ("data", ctypes.c_uint64),
        ("order", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    )


class KernelSync:
    """One fdatasync at a time. Raises OSError where the kernel does not do it."""

    def __init__(self) -> None:
        calls = _CALLS.get(platform.machine())
        if sys.platform != "linux" or calls is None or sys.maxsize < 2**32:  # a 32-bit program's numbers are others
            raise OSError("not on this system")
        setup, self._destroy, self._getevents, self._submit = calls
        self._system = ctypes.CDLL(None, use_errno=True).syscall
        self._context = ctypes.c_ulong(0)
        if self._system(setup, 1, ctypes.byref(self._context)) < 0:
            raise _error()
        try:
            self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            self._system(self._destroy, self._context)
            raise
        self._poll = select.poll()
        self._poll.register(self._eventfd, select.POLLIN)
        self._order = _Order(flags=_TELL_EVENTFD, eventfd=self._eventfd)
        self._orders = (ctypes.POINTER(_Order) * 1)(ctypes.pointer(self._order))
        self._outcome = _Outcome()
        self._under_way = False

    def fileno(self) -> int:
        """Readable when an fdatasync has ended that `has_ended` was not asked about since."""
        return self._eventfd

    def begin(self, what: int | str) -> bool:
        """Have a file's content and size, or the names in the directory of this path, made durable.

        False: they are, it was done at once. The one before must have ended.

        Raises:
            OSError: it failed.
        """
        if isinstance(what, int):
            return self._begin(_FDSYNC, what)
        fd = open_own(what, os.O_RDONLY | os.O_DIRECTORY, briefly=True)
        try:
            return self._begin(_FSYNC, fd)
        finally:
            os.close(fd)  # the order goes on without it
            keep()

    def _begin(self, opcode: int, fd: int) -> bool:
        assert not self._under_way, "one at a time"
        self._order.opcode, self._order.fd = opcode, fd
        if self._system(self._submit, self._context, ctypes.c_long(1), self._orders) != 1:
            (os.fdatasync if opcode == _FDSYNC else os.fsync)(fd)  # short of memory for orders: the caller waits
            return False
        self._under_way = True
        return True

    def has_ended(self) -> bool:
        """Whether none is under way. Raises OSError: the one that was has failed."""
        if self._under_way:
            try:
                os.eventfd_read(self._eventfd)
            except BlockingIOError:
                return False
            self._under_way = False
            taken = self._system(
                self._getevents, self._context, ctypes.c_long(1), ctypes.c_long(1), ctypes.byref(self._outcome), None
            )
            if taken != 1:
                raise _error()
            if self._outcome.result < 0:
                raise OSError(-self._outcome.result, os.strerror(-self._outcome.result))
        return True

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until none is under way, or for so long."""
        if self._under_way:
            self._poll.poll(None if timeout_s is None else timeout_s * 1_000)

    def close(self) -> None:
        """Give back what it took. Waits for one that is under way."""
        self._system(self._destroy, self._context)
        os.close(self._eventfd)


def open_kernel_sync() -> KernelSync | None:
    """One that works, or None."""
    try:
        kernel = KernelSync()
    except (OSError, AttributeError):  # a Python built for an older libc lacks some of these names
        return None
    try:
        probe = os.memfd_create("mcast", os.MFD_CLOEXEC)
        try:
            ordered = kernel.begin(probe)
            kernel.wait()
            if ordered and kernel.has_ended():
                return kernel
        finally:
            os.close(probe)
    except (OSError, AttributeError):
        pass
    kernel.close()
    return None


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))
