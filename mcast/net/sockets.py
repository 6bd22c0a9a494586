"""Opening the sockets: each option with its reason, each errno with its remedy. Kernel names Python 3.11 lacks."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from mcast.errors import EnvironmentProblem, NetworkMissing
from mcast.net.interfaces import Interface
from mcast.net.link import PeerAddress
from mcast.wire.envelope import INCARNATION_OFFSET

UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104
SO_RXQ_OVFL: Final = 40
SEND_BUFFER_BYTES: Final = 4 << 20  # twice the stream's window: a burst waits for the card, not in Python
IGNORED_BYTES: Final = 8  # of an incarnation compared by the kernel's filter; random, so no other shares them
_LINUX: Final = sys.platform == "linux"
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_SO_ATTACH_FILTER: Final = 26
_IP_MTU_DISCOVER: Final = 10
_IP_MULTICAST_ALL: Final = 49
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_MULTICAST_ALL: Final = 29
_PMTUDISC_PROBE: Final = 3
_UDP_HEADER_BYTES: Final = 8
_NOT_THERE: Final = (
    errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH,
)  # fmt: skip


def resolve(host: str, port: int) -> PeerAddress:
    """The socket address of a node; of several that a name has, the first that is not loopback's.

    Raises:
        NetworkMissing: the name is unknown, or nobody is there to ask.
    """
    return outward(resolve_all(host, port))


def resolve_all(host: str, port: int) -> list[PeerAddress]:
    """All socket addresses of a node, at least one. Raises as `resolve`."""
    try:
        found = [entry[4] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)]
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is none"
        what = f"{host}:{port}: the name cannot be resolved ({why})"
        raise NetworkMissing(what, "write its IP address, or add it to /etc/hosts") from None
    return found  # type: ignore[return-value]


def outward(found: Sequence[PeerAddress]) -> PeerAddress:
    """The first that is not loopback's, else the first."""
    return next((peer for peer in found if not ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback), found[0])


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_own(host: str) -> bool:
    """Whether this machine has this IP address; True where too few descriptors or bytes are left to find out."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 0))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
    return True


def open_unicast(host: str, port: int) -> socket.socket:
    """The node's own address, exclusively: a second process with it must hear of the first.

    Raises:
        NetworkMissing, EnvironmentProblem: see the messages.
    """
    where = f"{host}:{port}"
    peer = resolve(host, port)
    sock = _new(socket.AF_INET6 if len(peer) == 4 else socket.AF_INET)
    with _closing(sock), _explained(where, {
        errno.EADDRINUSE: (
            f"UDP address {where} is in use, likely by this node already running or by another cluster's node",
            f"stop it (ss -lunp 'sport = :{port}' shows it) or change the node's address",
        ),
        errno.EADDRNOTAVAIL: (
            f"this machine has no address {host}", "run this node on its own machine, or correct the node's address",
        ),
        errno.EACCES: (f"port {port} needs privileges", "choose a port above 1023"),
    }):  # fmt: skip
        sock.bind(peer)
        _grow_send_buffer(sock)
    return sock


def open_group(group: str, port: int, interface: Interface) -> socket.socket:
    """A socket that hears this group on this port and interface, and nothing else; shared by a machine's nodes."""
    version = ipaddress.ip_address(group).version
    sock = _new(socket.AF_INET if version == 4 else socket.AF_INET6)
    with _closing(sock), _explained(f"{group}:{port} on {interface.name}", {
        errno.EADDRINUSE: (
            f"UDP port {port} of group {group} is held by a program that does not share it",
            f"stop it (ss -lunp 'sport = :{port}' shows it) or change the cluster's port",
        ),
        errno.ENOBUFS: (
            "this machine has joined too many multicast groups", "run: sysctl net.ipv4.igmp_max_memberships=256",
        ),
        errno.ENODEV: (
            f"interface {interface.name} cannot join group {group}",
            f"choose another interface, or run: ip link set {interface.name} multicast on",
        ),
    }):  # fmt: skip
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not _LINUX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if version == 4:
            sock.bind((group, port))
            _try_option(sock, socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, _request4(group, interface))
        else:
            sock.bind((group, port, 0, interface.index))
            _try_option(sock, socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", interface.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
    return sock


def join_again(sock: socket.socket, group: str, interface: Interface) -> None:
    """Leave a group and join it again at once, so that switches which forgot the group learn of it anew."""
    if ipaddress.ip_address(group).version == 4:
        request, level = _request4(group, interface), socket.IPPROTO_IP
        leave, join = socket.IP_DROP_MEMBERSHIP, socket.IP_ADD_MEMBERSHIP
    else:
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", interface.index)
        level, leave, join = socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, socket.IPV6_JOIN_GROUP
    with suppress(OSError):
        sock.setsockopt(level, leave, request)
        sock.setsockopt(level, join, request)


def open_sender(group: str, port: int, interface: Interface) -> socket.socket:
    """A socket connected to the group, pinned to the interface: TTL 0 on loopback, 1 (this LAN) elsewhere."""
    version, hops = ipaddress.ip_address(group).version, 0 if interface.loopback else 1
    sock = _new(socket.AF_INET if version == 4 else socket.AF_INET6)
    with _closing(sock), _explained(f"{group}:{port} on {interface.name}", {
        errno.ENETUNREACH: (
            f"there is no route to group {group} on {interface.name}",
            f"run: ip route add {group} dev {interface.name}",
        ),
    }):  # fmt: skip
        if version == 4:
            address = interface.address(4)
            assert address is not None, "choose_interface() saw to it"
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, _request4("0.0.0.0", interface))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            sock.bind((address, 0))
            sock.connect((group, port))
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 1)
            sock.connect((group, port, 0, interface.index))
        _grow_send_buffer(sock)
    return sock


def grow_receive_buffer(sock: socket.socket, wanted: int) -> int:
    """Ask for this many bytes, by force where privileged; returns what the kernel really charges against."""
    try:
        if not _LINUX:
            raise PermissionError
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except OSError:
        while wanted >= 65_536:  # Linux caps silently; others refuse what is too much
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
                break
            wanted //= 2
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def enable_gro(sock: socket.socket) -> bool:
    """Receive whole bursts in one call, where the kernel can."""
    return _LINUX and _try_option(sock, socket.IPPROTO_UDP, UDP_GRO, 1)


def report_drops(sock: socket.socket) -> bool:
    """Have the kernel say how many packets did not fit the receive buffer."""
    return _LINUX and _try_option(sock, socket.SOL_SOCKET, SO_RXQ_OVFL, 1)


def ignore_incarnation(sock: socket.socket, incarnation: bytes) -> bool:
    """Drop datagrams of this incarnation in the kernel: a sequencer need not hear the whole stream it sends."""
    if not _LINUX:
        return False
    at = _UDP_HEADER_BYTES + INCARNATION_OFFSET
    high, low = struct.unpack("!II", incarnation[:IGNORED_BYTES])
    load, load_length, equal, at_least, answer = 0x20, 0x80, 0x15, 0x35, 0x06
    program = [
        (load_length, 0, 0, 0),
        (at_least, 0, 4, at + IGNORED_BYTES),  # what is shorter is garbage, to be counted as such
        (load, 0, 0, at),
        (equal, 0, 2, high),
        (load, 0, 0, at + 4),
        (equal, 1, 0, low),
        (answer, 0, 0, 0xFFFF_FFFF),
        (answer, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    whole = struct.pack("@HP", len(program), ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, whole)
    except OSError:
        return False
    return True


def _new(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if family == socket.AF_INET:
        _try_option(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        _try_option(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    return sock


def _request4(group: str, interface: Interface) -> bytes:
    """A `struct ip_mreqn` (elsewhere `ip_mreq`, which knows no index)."""
    address = socket.inet_aton(interface.address(4) or "0.0.0.0")
    if _LINUX:
        return socket.inet_aton(group) + address + struct.pack("@i", interface.index)
    return address if group == "0.0.0.0" else socket.inet_aton(group) + address


def _grow_send_buffer(sock: socket.socket) -> None:
    if not (_LINUX and _try_option(sock, socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BUFFER_BYTES)):
        _try_option(sock, socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def _try_option(sock: socket.socket, level: int, option: int, value: int) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


@contextmanager
def _closing(sock: socket.socket) -> Iterator[None]:
    """Close the socket if setting it up fails: a half-opened node must not hold a port."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


@contextmanager
def _explained(where: str, known: dict[int, tuple[str, str]]) -> Iterator[None]:
    """Turn an OSError into the problem it means and what to do about it."""
    try:
        yield
    except OSError as error:
        what, remedy = known.get(
            error.errno or 0, (f"cannot use {where}: {error.strerror}", "see: ip address, ip route")
        )
        kind = NetworkMissing if error.errno in _NOT_THERE else EnvironmentProblem
        raise kind(what, remedy) from error
