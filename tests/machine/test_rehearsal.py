"""The same commands give the same proof in any process, whatever the seed of its hashes."""

import os
import subprocess
import sys

import pytest

from mcast.machine.kv import KeyValue
from mcast.machine.rehearsal import RECORD_BYTES, Rehearsal

PROGRAM = """
from mcast.machine.kv import KeyValue
from mcast.machine.rehearsal import Rehearsal
words = ["set", "incr", "append", "delete", "cas"]
rehearsal = Rehearsal(KeyValue(), seed=7)
outcomes = rehearsal.run(
    [words[n % 5], f"k{n * 7919 % 31}", *([n % 3] * (n % 5 != 3) + [{"z": n, "a": 1}] * (n % 5 == 4))]
    for n in range(2000)
)
print(*(proof.hex() for proof in rehearsal.proof()), {outcome.kind for outcome in outcomes} >= {"ok", "rejected"})
print(rehearsal.query("scan", "k1", 4), {} if SENSITIVE is None else SENSITIVE)
"""


def in_a_process(program: str, hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_two_processes_with_other_hash_seeds_prove_the_same() -> None:
    program = PROGRAM.replace("SENSITIVE", "None")
    one, other = in_a_process(program, 1), in_a_process(program, 2)
    assert one == other and "True" in one


def test_the_comparison_would_notice_an_order_that_depends_on_the_seed() -> None:
    program = PROGRAM.replace("SENSITIVE", "list({chr(97 + n) * 3 for n in range(20)})")
    assert in_a_process(program, 1) != in_a_process(program, 2)


def test_outcomes_come_in_the_order_of_commands_across_records() -> None:
    rehearsal = Rehearsal(KeyValue())
    assert [outcome.value for outcome in rehearsal.run(("incr", "k") for _ in range(200))] == list(range(1, 201))
    assert rehearsal.query("get", "k") == 200


def test_a_seed_changes_the_cluster_and_so_the_draws() -> None:
    assert Rehearsal(KeyValue(), seed=1).engine.cluster_uuid != Rehearsal(KeyValue(), seed=2).engine.cluster_uuid


def test_large_commands_get_records_of_their_own_up_to_the_bound() -> None:
    rehearsal = Rehearsal(KeyValue())
    value = "x" * (RECORD_BYTES - 20)
    assert [outcome.kind for outcome in rehearsal.run([("set", "k", value)] * 3)] == ["ok"] * 3
    with pytest.raises(ValueError, match="a rehearsal takes"):
        rehearsal.run([("set", "k", "x" * RECORD_BYTES)])
