"""What this node's own journal came to, as of a clean stop: a file beside it, for the next start to compare with.

JSON as the meta file: {"results": {...}, "blake2b": hex over the canonical "results"}. It proves nothing to others, and
nothing rests on it: one that is missing or damaged only means that there is nothing to compare with.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from mcast.errors import DecodeError
from mcast.limits import SEQ_MAX
from mcast.storage.files import Files, replace_file

RESULTS_NAME: Final = "results.json"
RESULTS_BYTES_MAX: Final = 64 << 10  # bytes; ours are some thousand
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class KeptResults:
    """`marks`: event, chain and result chain behind it, ascending; `runs`: what the node ran then."""

    runs: dict[str, Any]
    marks: tuple[tuple[int, bytes, bytes], ...]


def load_results(files: Files, directory: str) -> KeptResults | None:
    """The kept results; None if there are none. Raises DecodeError, OSError."""
    path = f"{directory}/{RESULTS_NAME}"
    if not files.exists(path):
        return None
    fd = files.open(path)
    try:
        return decode_results_untrusted(files.pread(fd, RESULTS_BYTES_MAX + 1, 0))
    finally:
        files.close(fd)


def store_results(files: Files, directory: str, kept: KeptResults) -> None:
    """Replace what is kept; durable on return. Raises OSError, with the old file still in place or the new."""
    replace_file(files, directory, RESULTS_NAME, encode_results(kept))


def encode_results(kept: KeptResults) -> bytes:
    """The file's bytes."""
    marks = [[seq, chain.hex(), results.hex()] for seq, chain, results in kept.marks]
    values = {"format": FORMAT, "runs": kept.runs, "marks": marks}
    return json.dumps({"results": values, "blake2b": _checksum(values)}, sort_keys=True).encode() + b"\n"


def decode_results_untrusted(data: bytes) -> KeptResults:
    """Read the file. Raises DecodeError: not what `encode_results` writes."""
    if len(data) > RESULTS_BYTES_MAX:
        raise DecodeError("results too long", f"over {RESULTS_BYTES_MAX} bytes")
    try:
        document = json.loads(data)
        values, checksum = document["results"], document["blake2b"]
        if checksum != _checksum(values) or values["format"] != FORMAT or not isinstance(values["runs"], dict):
            raise DecodeError("results that do not match their checksum, or of another format")
        marks = tuple((seq, bytes.fromhex(chain), bytes.fromhex(results)) for seq, chain, results in values["marks"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DecodeError("results are not what mcast writes") from None
    if not all(type(seq) is int and 0 < seq <= SEQ_MAX for seq, _, _ in marks):
        raise DecodeError("results of no event")
    return KeptResults(values["runs"], marks)


def _checksum(values: object) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return blake2b(canonical, digest_size=16).hexdigest()
