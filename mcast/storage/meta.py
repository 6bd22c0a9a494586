"""The meta file: whose data directory this is, and the few values its node must never forget.

JSON for the operator's eyes, with a checksum for ours: {"meta": {...}, "blake2b": hex over the canonical "meta"}.
Always replaced whole: written beside, synced, renamed over, directory synced.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, fields
from hashlib import blake2b
from typing import Any, Final

from mcast.errors import DecodeError, NewerFormat
from mcast.limits import EPOCH_MAX, SEQ_MAX
from mcast.protocol.effects import Meta
from mcast.storage.files import Files, replace_file

META_NAME: Final = "meta.json"
META_BYTES_MAX: Final = 4_096  # bytes; ours are a few hundred
FORMAT: Final = 3
FORMAT_NO_TURN: Final = 2  # the same fields but for the turn
FORMAT_UNMARKED: Final = 1  # as 2, in a directory from before there were watermarks
STORAGE_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryMeta:
    """All that the meta file says."""

    cluster: str
    node: str
    meta: Meta
    boot_id: str
    """The kernel's, when the directory was last written; empty when unknown."""
    sync: str
    """The sync mode the journal was last written under: "always" or "os"."""
    clean: bool
    """The last process closed the directory in order."""
    synced_seq: int
    """The journal was durable up to here."""
    suspect: bool
    """Acknowledged events may be missing, and the log has not been known whole since."""
    watermarked: bool = True
    """A watermark stands beside this file; False in a directory that an earlier version wrote last."""
    turn: int = 0
    """Counts how often this was replaced. The watermark knows it, too: an older file that is put back is told by it."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """The fields as they stand in the file."""

    format: int
    cluster: str
    node: str
    storage_id: str
    promised: int
    voted_epoch: int
    voted_for: int
    boot_id: str
    sync: str
    clean: bool
    synced_seq: int
    suspect: bool
    turn: int


def load_meta(files: Files, directory: str) -> DirectoryMeta | None:
    """The directory's meta; None when it has none.

    Raises:
        DecodeError: the file is damaged, or of another format (NewerFormat: of a later one).
        OSError: it cannot be read.
    """
    path = f"{directory}/{META_NAME}"
    if not files.exists(path):
        return None
    fd = files.open(path)
    try:
        return decode_meta_untrusted(files.pread(fd, META_BYTES_MAX + 1, 0))
    finally:
        files.close(fd)


def store_meta(files: Files, directory: str, meta: DirectoryMeta) -> None:
    """Replace the directory's meta; durable on return. Raises OSError, with the old one still in place or the new."""
    replace_file(files, directory, META_NAME, encode_meta(meta))


def encode_meta(meta: DirectoryMeta) -> bytes:
    """The meta file's bytes."""
    version = FORMAT if meta.watermarked else FORMAT_UNMARKED
    stored = _Stored(
        version, meta.cluster, meta.node, meta.meta.storage_id.hex(), meta.meta.promised, meta.meta.voted_epoch,
        meta.meta.voted_for, meta.boot_id, meta.sync, meta.clean, meta.synced_seq, meta.suspect, meta.turn,
    )  # fmt: skip
    values = asdict(stored)
    if not meta.watermarked:
        del values["turn"]
    return json.dumps({"meta": values, "blake2b": _checksum(values)}, indent=1, sort_keys=True).encode() + b"\n"


def decode_meta_untrusted(data: bytes) -> DirectoryMeta:
    """Read a meta file.

    Raises:
        DecodeError: not what `encode_meta` writes. NewerFormat: but what a later one does.
    """
    if len(data) > META_BYTES_MAX:
        raise DecodeError("meta too long", f"over {META_BYTES_MAX} bytes")
    try:
        document = json.loads(data)
        values, checksum = document["meta"], document["blake2b"]
        checked = _checksum(values)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DecodeError("meta is not what mcast writes") from None
    if checksum != checked:
        raise DecodeError("meta does not match its checksum")
    version = values.get("format") if isinstance(values, dict) else None
    if type(version) is int and version > FORMAT:
        raise NewerFormat("meta of a later format", f"{version}")
    if version not in (FORMAT, FORMAT_NO_TURN, FORMAT_UNMARKED):
        raise DecodeError("meta of another format")
    return _checked(values if version == FORMAT else {"turn": 0, **values})


def _checked(values: dict[str, Any]) -> DirectoryMeta:
    kinds = {"int": int, "str": str, "bool": bool}
    if set(values) != {field.name for field in fields(_Stored)} or any(
        type(values[field.name]) is not kinds[str(field.type)] for field in fields(_Stored)
    ):
        raise DecodeError("meta with other fields")
    stored = _Stored(**values)
    try:
        storage_id = bytes.fromhex(stored.storage_id)
    except ValueError:
        raise DecodeError("meta with a bad storage id") from None
    sane = (
        len(storage_id) == STORAGE_ID_BYTES
        and 0 <= stored.promised <= EPOCH_MAX
        and 0 <= stored.voted_epoch <= EPOCH_MAX
        and 0 <= stored.voted_for < 1 << 64
        and 0 <= stored.synced_seq <= SEQ_MAX
        and 0 <= stored.turn < 1 << 64
        and stored.sync in ("always", "os")
    )
    if not sane:
        raise DecodeError("meta with a value out of range")
    return DirectoryMeta(
        cluster=stored.cluster,
        node=stored.node,
        meta=Meta(storage_id, stored.promised, stored.voted_epoch, stored.voted_for),
        boot_id=stored.boot_id,
        sync=stored.sync,
        clean=stored.clean,
        synced_seq=stored.synced_seq,
        suspect=stored.suspect,
        watermarked=stored.format != FORMAT_UNMARKED,
        turn=stored.turn,
    )


def _checksum(values: object) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return blake2b(canonical, digest_size=16).hexdigest()


def kernel_boot_id() -> str:
    """Names this run of the kernel; empty when that is not known, which counts as another run."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip()
    try:
        fd = os.open("/proc/sys/kernel/random/boot_id", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(fd, 64).decode().strip()
    finally:
        os.close(fd)
