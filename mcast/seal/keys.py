"""The key file: one 32-byte secret a line, in hex; the first seals, all open.

To rotate without a pause: append the new key everywhere, then move it to the top everywhere, then delete the old one.
A key file is a password: written for its owner alone, and refused when others can read it.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcast.errors import ConfigError, EnvironmentProblem
from mcast.limits import KEY_FILE_BYTES_MAX, KEYS_MAX

KEY_BYTES: Final = 32
_HEADER: Final = "# mcast key file: the first key seals, all open. Keep it secret; copy it to every node and client.\n"


@dataclass(frozen=True, slots=True, repr=False)
class KeyRing:
    """The secrets of one cluster, 1 to KEYS_MAX of them: `keys[0]` seals, all open. Never printed."""

    keys: tuple[bytes, ...]

    def __post_init__(self) -> None:
        assert 0 < len(self.keys) <= KEYS_MAX, f"{len(self.keys)} keys"
        assert all(len(key) == KEY_BYTES for key in self.keys), "a key has 32 bytes"


def derive(secret: bytes, salt: bytes, info: bytes, size: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869): `size` bytes, at most 255 x 32, derived from `secret` for the purpose `info`."""
    return HKDF(SHA256(), size, salt, info).derive(secret)


def generate_key_file(path: Path | str) -> None:
    """Write a new key file with one random key, mode 0600.

    Raises:
        EnvironmentProblem: the file exists already (it is never overwritten), or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise EnvironmentProblem(
            f"key file {path} exists already and is never overwritten",
            "choose another path, or move the old file away if no node uses it",
        ) from None
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write key file {path}: {error.strerror}", "choose a folder that exists and that you may write to"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(_HEADER + secrets.token_hex(KEY_BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())


def load_keys(path: Path | str) -> KeyRing:
    """The ring of a key file.

    Raises:
        ConfigError: no such file, or not a key file (the message never shows a key).
        EnvironmentProblem: it can be read by others, or cannot be read at all.
    """
    text = _read_bounded(path)
    lines = [line.strip() for line in text.splitlines()]
    keys = [_parse(line, number, path) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
    if not keys:
        raise _bad(path, "holds no key", f"write one with: mcast keygen {path}.new")
    if len(keys) > KEYS_MAX:
        raise _bad(path, f"holds {len(keys)} keys, at most {KEYS_MAX} are allowed", "delete the oldest at its end")
    if len(set(keys)) != len(keys):
        raise _bad(path, "holds the same key twice", "delete one of the two lines")
    return KeyRing(tuple(keys))


def _bad(path: Path | str, problem: str, fix: str) -> ConfigError:
    return ConfigError("key_file", str(path), problem, fix)


def _read_bounded(path: Path | str) -> str:
    try:
        # O_NONBLOCK: a FIFO in the file's place must not hang the node.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise _bad(
            path, "does not exist", f"copy the cluster's key file there, or make one with: mcast keygen {path}"
        ) from None
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot read key file {path}: {error.strerror}",
            f"run as its owner, or give it to this user: chown $USER {path}",
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _bad(path, "is not a regular file", "name a key file written by mcast keygen")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise EnvironmentProblem(
                f"key file {path} can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o})",
                f"close it with: chmod 600 {path}",
            )
        data = os.read(descriptor, KEY_FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > KEY_FILE_BYTES_MAX:
        raise _bad(path, f"is longer than {KEY_FILE_BYTES_MAX} bytes", "name a key file written by mcast keygen")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise _bad(path, "is not text", "name a key file written by mcast keygen") from None


def _parse(line: str, number: int, path: Path | str) -> bytes:
    try:
        key = bytes.fromhex(line)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise _bad(path, f"line {number} is not a key of 64 hex digits", "copy the file again from a node that works")
    return key
