"""The result chain: a function of the proofs alone, however they are handed over."""

import struct
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast.machine import resultchain
from mcast.machine.canonical import decode_plain, encode_ordered
from mcast.machine.engine import Engine
from mcast.machine.resultchain import BLOCK_BYTES, ResultChain
from tests.machine.conftest import Log, Notebook

SIZES = [0, 1, 50, BLOCK_BYTES // 3, BLOCK_BYTES - 1, BLOCK_BYTES, 3 * BLOCK_BYTES]
PROOFS = st.lists(st.sampled_from(SIZES), max_size=12)


def by_theory(proofs: list[bytes]) -> bytes:
    before, block = bytes(16), b""
    for proof in proofs:
        block += proof
        if len(block) >= BLOCK_BYTES:
            before, block = sha256(before + block).digest()[:16], b""
    return sha256(before + block).digest()[:16] if block else before


@given(PROOFS, st.lists(st.integers(1, 5), max_size=12))
def test_the_value_is_what_the_theory_says_however_proofs_come(sizes: list[int], bursts: list[int]) -> None:
    proofs = [bytes([index]) * size for index, size in enumerate(sizes)]
    chain, at = ResultChain(), 0
    for burst in (*bursts, len(proofs)):
        chain.add(proofs[at : at + burst])
        at += burst
        assert chain.value == by_theory(proofs[:at])
        restored = ResultChain()
        restored.restore(decode_plain(encode_ordered(chain.snapshot())))
        chain = restored


def test_what_waits_to_be_hashed_is_bounded() -> None:
    chain = ResultChain()
    for _ in range(1_000):
        chain.add([bytes(1_000)] * 10)
        assert sum(map(len, chain._proofs)) < BLOCK_BYTES


def test_an_engines_chain_is_over_its_records_outcomes(log: Log) -> None:
    applied = log.send(log.open(), 1, ("note", "a"))
    opened = struct.pack("!QQI", 1, 1, 1) + struct.pack("!BIQQ", 0, 0, 1, 0)
    noted = struct.pack("!QQI", 1, 2, 1) + struct.pack("!BIQQ", 0, len(applied.outcomes), 1, 1) + applied.outcomes
    assert log.engine.result_chain == sha256(bytes(16) + opened + noted).digest()[:16]


def test_a_block_that_ends_within_an_engines_burst_ends_there(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resultchain, "BLOCK_BYTES", 100)
    log.open()
    for request in range(1, 20):
        log.send(1, request, ("note", request))
    in_blocks = log.engine.result_chain
    at_once = Engine(Notebook())
    at_once.apply(log.frames)
    assert at_once.result_chain == in_blocks
    monkeypatch.undo()
    in_one_block = Engine(Notebook())
    in_one_block.apply(log.frames)
    assert in_one_block.result_chain != in_blocks
