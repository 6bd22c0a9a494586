"""A switch in user space: Ethernet frames between TAP devices, each directed link with a loss of its own.

Many kernels cannot lose packets on demand, and in one that can a rule does not know a link's direction between two
neighbours. Here every frame passes a dozen lines that do. Without offloads at a TAP, bursts come as single frames.

Run as a program in the network namespace where the devices begin: `python -m mcast.lab.switch DEVICE...` makes
them, says "ready", and then reads its rules: one JSON object a line, {"FROM>TO": share lost}, answered "ok". It ends
when its input does, and the devices with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import selectors
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

FRAME_BYTES_MAX: Final = 65_550
FRAMES_MAX: Final = 64  # read from one device before the others get their turn
_TUNSETIFF: Final = 0x4004_54CA
_TAP_NO_INFO: Final = 0x1002


class Switch:
    """Decides where a frame goes: learns addresses, floods what it doesn't know, and loses as the rules say."""

    def __init__(self, ports: Sequence[str], draw: Callable[[], float]) -> None:
        self._ports = tuple(ports)
        self._draw = draw
        self._losses: dict[tuple[str, str], float] = {}
        self._learned: dict[bytes, str] = {}

    def set_losses(self, losses: Mapping[str, float]) -> None:
        """Replace all rules: "FROM>TO" -> share of the frames lost on that link, 1 for a cut."""
        self._losses = {}
        for link, share in losses.items():
            source, _, target = link.partition(">")
            self._losses[source, target] = share

    def forward(self, source: str, frame: bytes) -> list[str]:
        """The ports that the frame leaves by."""
        target, sender = frame[:6], frame[6:12]
        self._learned[sender] = source
        known = None if target[0] & 1 else self._learned.get(target)
        ports = self._ports if known is None else (known,)
        return [port for port in ports if port != source and self._passes(source, port)]

    def _passes(self, source: str, target: str) -> bool:
        loss = self._losses.get((source, target))
        return loss is None or (loss < 1.0 and self._draw() >= loss)


def run(devices: Sequence[str]) -> None:
    """Make the devices and switch between them until the input ends."""
    taps = {device: _open_tap(device) for device in devices}
    switch = Switch(devices, random.random)
    print("ready", flush=True)  # noqa: T201 - the program's protocol
    with selectors.DefaultSelector() as selector:
        for device, tap in taps.items():
            selector.register(tap, selectors.EVENT_READ, device)
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    if not _pump(switch, taps, key.data):
                        selector.unregister(key.fileobj)
                elif line := sys.stdin.buffer.readline():
                    switch.set_losses(json.loads(line))
                    print("ok", flush=True)  # noqa: T201
                else:
                    return


def _pump(switch: Switch, taps: Mapping[str, int], source: str) -> bool:
    """Forward what waits at one device; whether the device still exists."""
    for _ in range(FRAMES_MAX):
        try:
            frame = os.read(taps[source], FRAME_BYTES_MAX)
        except BlockingIOError:
            break
        except OSError:
            return False  # its namespace has ended
        for port in switch.forward(source, frame):
            try:
                os.write(taps[port], frame)
            except OSError:  # its end is down or full: a loss like any other
                continue
    return True


def _open_tap(device: str) -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", device.encode(), _TAP_NO_INFO))
    return tap


if __name__ == "__main__":
    run(sys.argv[1:])
