"""What the shell needs of a network, whatever carries it: real UDP sockets or the in-process hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

PeerAddress = tuple[str, int] | tuple[str, int, int, int]
"""A resolved IPv4 or IPv6 socket address."""


@dataclass(slots=True)
class LinkCounters:
    """A link's counts since it was opened. Datagrams count segments, sends and receives count system calls."""

    datagrams_sent: int = 0
    bytes_sent: int = 0
    sends: int = 0
    sends_lost: dict[str, int] = field(default_factory=dict)
    """Datagrams a send refused, by errno name: lost as far as the stream is concerned."""
    datagrams_received: int = 0
    bytes_received: int = 0
    receives: int = 0
    kernel_drops: int = 0
    """Packets that did not fit a socket's receive buffer (SO_RXQ_OVFL; a GRO burst counts once)."""
    gso: bool = False
    """Whether the kernel cuts bursts into datagrams: one send for many."""
    gro: bool = False
    """Whether the kernel merges arriving datagrams: one receive for many."""


class DatagramLink(Protocol):
    """Datagrams in and out: the stream channel and the control channel go to the group, unicast to one peer."""

    counters: LinkCounters

    @property
    def receive_window(self) -> int:
        """Bytes of full-sized datagrams its receive buffer surely takes."""

    @property
    def has_more(self) -> bool:
        """Whether the last `receive` stopped at its bound rather than at an empty socket."""

    def attach(self, loop: asyncio.AbstractEventLoop, readable: Callable[[], None]) -> None:
        """Call `readable` on this loop whenever something can be received, until closed."""

    def send(self, channel: int, datagrams: Sequence[bytes], to: PeerAddress | None = None) -> None:
        """Send a burst, in order; `to` exactly for the unicast channel. Never blocks; what is refused is counted."""

    def receive(self) -> list[memoryview]:
        """One bounded burst of datagrams, stream first; the views hold until the next call."""

    def close(self) -> None:
        """Leave the group and close; idempotent."""
