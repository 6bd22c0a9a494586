"""`mcast recover`, cut short at each of its changes of the disk: it is repeated, and nothing was promised meanwhile."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from mcast.config import Config, NodeConfig
from mcast.node.recover import recover
from mcast.node.setup import open_store
from mcast.protocol.recovered import Recovered
from mcast.sim.disk import SimFiles, Stopped
from mcast.storage.store import Store
from mcast.wire.frame import CHAIN_ZERO, Frame, make_frame
from mcast.wire.messages import Configuration as Members
from mcast.wire.messages import Genesis, Member, encode_message
from mcast.wire.records import RecordKind, encode_record

SYNCED = 9  # events


class Node:
    """n1 of three, which acknowledged a log and was killed."""

    def __init__(self, folder: Path) -> None:
        nodes = tuple(NodeConfig(id=f"n{at}", address=f"127.0.0.1:{at}") for at in (1, 2, 3))
        self.config = Config(name="lab", nodes=nodes, folder=folder, data_dir=folder / "data")
        self.files = SimFiles(Random(1))
        store, found = self.start(self.files)
        self.id = found.meta.storage_id
        ids = (self.id, bytes(15) + b"2", bytes(15) + b"3")
        members = tuple(Member(node.id, id_, node.address) for node, id_ in zip(nodes, ids, strict=True))
        genesis = Genesis(bytes(range(16)), Members(1, members))
        record = encode_record(RecordKind.GENESIS, 1, 0, 0, 0, encode_message(genesis))
        self.log = [make_frame(0, 1, 1, 0, 1_000, CHAIN_ZERO, record)]
        while len(self.log) < SYNCED:
            noop = encode_record(RecordKind.NOOP, 1, 1, 1, 1, b"")
            last = self.log[-1]
            self.log.append(make_frame(3, last.last + 1, 1, last.last, 2_000, last.chain, noop))
        store.write_meta(replace(found.meta, promised=3))
        store.append(self.log)
        store.sync()
        self.files.kill()
        self.files.write_back()
        self.segment = next(path for path in self.files.paths() if path.endswith(".segment"))

    def start(self, files: SimFiles) -> tuple[Store, Recovered]:
        return open_store(self.config, "n1", files)

    def judge(self, files: SimFiles) -> None:
        """A start: under the old storage id the log is the old one; what vouches for RECOVERY has another."""
        store, found = self.start(files)
        held = [frame for burst in store.frames_from(1) for frame in burst]
        if found.meta.storage_id == self.id:
            assert found.suspect or held == self.log
            assert not any(_is_recovery(frame) for frame in held), "the old identity holds another cluster's beginning"
        elif any(_is_recovery(frame) for frame in held):
            assert found.meta.promised >= held[-1].epoch, "a vote in the epoch of RECOVERY is still free"
        store.close()


def _is_recovery(frame: Frame) -> bool:
    return frame.body[0] == RecordKind.RECOVERY


def nothing(node: Node, files: SimFiles) -> None:
    pass


def watermark_gone(node: Node, files: SimFiles) -> None:
    files.unlink(f"{node.config.data_dir}/n1/watermark")
    files.write_back()


def torn_end(node: Node, files: SimFiles) -> None:
    store, _ = node.start(files)
    noop = encode_record(RecordKind.NOOP, 1, 1, 1, 1, b"")
    store.append([make_frame(3, SYNCED + 1, 1, SYNCED, 2_000, node.log[-1].chain, noop)])
    files.kill()
    written = len(files.contents(node.segment).rstrip(b"\0"))
    files.lose_tail(node.segment, written - 5, zeroed=True)


@pytest.mark.parametrize("power", [True, False], ids=["power", "kill"])
@pytest.mark.parametrize("damage", [nothing, watermark_gone, torn_end])
def test_it_is_cut_short_anywhere_and_repeated(
    tmp_path: Path, damage: Callable[[Node, SimFiles], None], power: bool
) -> None:
    node = Node(tmp_path)
    damage(node, node.files)
    node.files.kill()
    for stop in range(100):
        files = node.files.copy(Random(stop))
        files.stop_after(stop)
        done = False
        with suppress(Stopped):
            recover(node.config, "n1", files)
            done = True
        if power:
            files.crash()
        else:
            files.kill()
        node.judge(files.copy(Random(stop)))
        if not done:
            recover(node.config, "n1", files)
            files.crash()
        store, found = node.start(files)
        assert found.meta.storage_id != node.id and not found.suspect
        frames = [frame for burst in store.frames_from(1) for frame in burst]
        assert frames[:SYNCED] == node.log and _is_recovery(frames[-1]) and not store.findings
        if done:
            assert stop > 20
            return
    raise AssertionError("a recovery that never ends")


def test_what_the_disk_lost_is_not_recovered_as_if_it_were_whole(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.files.lose_tail(node.segment, 1_000, zeroed=False)
    with pytest.raises(Exception, match="holds no log"):
        recover(node.config, "n1", node.files)
    _, found = node.start(node.files)
    assert found.meta.storage_id != node.id and not found.frames
