"""Any one file of a data directory befallen by anything, while its node is down: nothing acknowledged is lost.

Two of three acknowledge and die, and the third was away. One of the two comes back, with the third: they are a
majority, and what they do not hold is lost if they rule. Either its directory is whole, or it knows that it may not be.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from mcast.errors import DecodeError, EnvironmentProblem
from mcast.protocol.rules import Rules
from mcast.sim.disk import SimFiles
from mcast.sim.node import SimNode
from mcast.sim.stage import Stage, has_committed_all
from mcast.storage.meta import META_NAME, decode_meta_untrusted
from mcast.storage.store import Store

EVENTS = 75
SIZE = 1_000  # so that the journal takes two segments
Damage = Callable[[SimFiles, str, dict[str, bytes], SimFiles], bytes | None]
"""What is to stand in the place of a file, of which an older state and another node's are known; None: nothing."""


def gone(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> None:
    return None


def empty(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes:
    return b""


def halved(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes:
    data = files.contents(path)
    return data[: len(data.rstrip(b"\0")) // 2]


def zeroed(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes:
    return bytes(len(files.contents(path)))


def half_zeroed(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes:
    data = files.contents(path)
    return halved(files, path, older, other).ljust(len(data), b"\0")


def lengthened(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes:
    return files.contents(path) + b"?" * 10_000


def of_a_second_ago(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes | None:
    return older.get(path)


def of_another_node(files: SimFiles, path: str, older: dict[str, bytes], other: SimFiles) -> bytes | None:
    return other.contents(path) if other.exists(path) else None


DAMAGES: list[Damage] = [
    gone, empty, halved, zeroed, half_zeroed, lengthened, of_a_second_ago, of_another_node,
]  # fmt: skip
FILES = ["meta.json", "watermark", "0000000001.segment", "0000000002.segment"]


def acknowledged_by_two(stage: Stage, *, moved: bool) -> dict[str, bytes]:
    """n1 and n2 acknowledge, and die; with `moved` n2 became the sequencer meanwhile. n2's files, a second before."""
    sequencer, second = stage.wait_for_bootstrap(), stage.node("n2")
    stage.cut("n3")
    stage.number(sequencer, EVENTS // 3, SIZE)
    stage.wait_until("they have committed", partial(has_committed_all, sequencer))
    older = {path: second.files.contents(path) for path in second.files.paths()}
    stage.run(1.0)
    if moved:
        sequencer.hand_over(second)
        stage.wait_until("n2 leads", lambda: second.replica.is_sequencer)
        sequencer = second
    for _ in range(2):
        stage.number(sequencer, EVENTS // 3, SIZE)
        stage.wait_until("they have committed", partial(has_committed_all, sequencer))
    stage.wait_until("n2 has all on disk", lambda: second.book.durable == sequencer.replica.last_seq)
    stage.run(0.1)
    second.crash(power=False)
    stage.node("n1").crash(power=False)
    return older


def replaced(node: SimNode, path: str, data: bytes | None) -> None:
    """Put this in the place of a file, unnoticed."""
    if data is None:
        node.files.unlink(path)
    else:
        node.files.replace(path, data)
    node.files.write_back()
    node.world.checker.on_rot(node.book)
    if path.endswith(META_NAME) and data:
        with suppress(DecodeError):  # what it promises now is what the node knows of
            node.book.meta = node.book.writing = decode_meta_untrusted(data).meta


@pytest.mark.parametrize(("sync", "moved"), [("always", False), ("always", True), ("os", True)])
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_nothing_acknowledged_is_lost(name: str, damage: Damage, moved: bool, sync: str) -> None:
    stage = Stage(Rules(), None, members=3, delay_s=0.000_5, sync=sync)
    older = acknowledged_by_two(stage, moved=moved)
    second, third = stage.node("n2"), stage.node("n3")
    path = next(path for path in second.files.paths() if path.endswith(name))
    whole = second.replica.last_seq
    replaced(second, path, damage(second.files, path, older, stage.node("n1").files))
    stage.join()
    second.start()
    stage.run(1.0)
    if not second.up:
        assert (name, damage) == ("meta.json", of_another_node)
        with pytest.raises(EnvironmentProblem, match="belongs to node 'n1', not 'n2'") as problem:
            Store.open(second.files.copy(), "/data", second.settings.cluster, "n2")
        assert "set data_dir to another directory, or move /data away" in problem.value.remedy
        second.wipe()
        stage.run(0.1)
    until_sequencer = [node for node in (second, third) if node.replica.is_sequencer]
    assert not until_sequencer or second.replica.commit_seq >= whole, "they rule only with all that was acknowledged"
    stage.node("n1").start()
    stage.heal()
