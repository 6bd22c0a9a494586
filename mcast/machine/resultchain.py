"""The result chain: one hash of all that the log's client records came to. Equal logs must give equal chains.

    result chain = SHA-256(result chain at the last block's end, proofs of the frames since), cut to 16 bytes
    a frame's proof = epoch, first, count, then for each client record: status, size, session, request, and its
                      outcomes' bytes if it was executed

A block ends with the frame whose proof makes it BLOCK_BYTES or more. So the chain is a function of the log alone, and
what a frame costs is not a hash of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from mcast.wire.frame import CHAIN_BYTES, CHAIN_ZERO

BLOCK_BYTES: Final = 64 << 10  # of proofs that wait to be hashed; a frame's last may add as much as its outcomes have


class ResultChain:
    """Add the proof of each frame, in order."""

    def __init__(self) -> None:
        self._before = CHAIN_ZERO
        self._proofs: list[bytes] = []
        self._size = 0

    @property
    def value(self) -> bytes:
        """The chain up to the last frame added."""
        if not self._size:
            return self._before
        return sha256(b"".join((self._before, *self._proofs))).digest()[:CHAIN_BYTES]

    def add(self, proofs: Sequence[bytes]) -> None:
        """The proofs of the frames that follow."""
        size = self._size + sum(map(len, proofs))
        if size < BLOCK_BYTES:
            self._proofs += proofs
            self._size = size
            return
        for proof in proofs:
            self._proofs.append(proof)
            self._size += len(proof)
            if self._size >= BLOCK_BYTES:
                self._before = self.value
                self._proofs.clear()
                self._size = 0

    def snapshot(self) -> list[Any]:
        """Plain data to go on from."""
        return [self._before, b"".join(self._proofs)]

    def restore(self, data: Sequence[Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._before, proofs = data
        self._proofs, self._size = [proofs] if proofs else [], len(proofs)
