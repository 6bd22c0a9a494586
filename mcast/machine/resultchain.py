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
        self._last_block: tuple[bytes, list[bytes]] = CHAIN_ZERO, []
        """The chain before the last whole block, and its proofs."""

    @property
    def value(self) -> bytes:
        """The chain up to the last frame added."""
        if not self._size:
            return self._before
        return sha256(b"".join((self._before, *self._proofs))).digest()[:CHAIN_BYTES]

    def add(self, proofs: Sequence[bytes]) -> Sequence[tuple[int, bytes]]:
        """The proofs of the frames that follow; which of them ended a block, and the chain there."""
        size = self._size + sum(map(len, proofs))
        if size < BLOCK_BYTES:
            self._proofs += proofs
            self._size = size
            return ()
        ends = []
        for index, proof in enumerate(proofs):
            self._proofs.append(proof)
            self._size += len(proof)
            if self._size >= BLOCK_BYTES:
                self._last_block = self._before, self._proofs
                self._before = self.value
                self._proofs, self._size = [], 0
                ends.append((index, self._before))
        return ends

    @property
    def recent(self) -> list[bytes]:
        """The proofs of the last whole block and of the one that has begun; after `restore`, some of them joined."""
        return [*self._last_block[1], *self._proofs]

    def values_at(self, indexes: Sequence[int]) -> list[bytes]:
        """The chain behind these of the `recent` proofs, ascending."""
        (before, block), at = self._last_block, 0
        chain, values, begun = sha256(before), [], False
        proofs = self.recent
        for index in indexes:
            if index >= len(block) and not begun:
                chain, at, begun = sha256(self._before), len(block), True
            chain.update(b"".join(proofs[at : index + 1]))
            at = index + 1
            ended = index == len(block) - 1
            values.append(self._before if ended else chain.digest()[:CHAIN_BYTES])
        return values

    def snapshot(self) -> list[Any]:
        """Plain data to go on from."""
        return [self._before, b"".join(self._proofs)]

    def restore(self, data: Sequence[Any]) -> None:
        """Go on from what `snapshot` returned."""
        self._before, proofs = data
        self._proofs, self._size = [proofs] if proofs else [], len(proofs)
        self._last_block = CHAIN_ZERO, []
