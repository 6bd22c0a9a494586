from mcast.protocol.core import Core
from mcast.protocol.membership import Membership
from mcast.protocol.rules import Rules
from mcast.wire.frame import Frame
from mcast.wire.messages import Ack, Configuration

from .bench import CONFIG, KEY, STORAGE, command_frame, core, epoch_log

LOG = epoch_log([(1, "n1", 5)])
FRESH = b"fresh".ljust(16)


def applied(rules: Rules | None = None, *, seq: int = 7, commit: int = 7) -> tuple[Core, Membership]:
    shared = core("n1", LOG, 1, rules)
    shared.commit_seq = commit
    membership = Membership(shared)
    membership.on_ack(KEY["n3"], ack_of(LOG[seq - 1]))
    return shared, membership


def ack_of(frame: Frame) -> Ack:
    return Ack(1, FRESH, frame.last, frame.chain, 1, 1, 1)


def storage_of(config: Configuration | None) -> dict[str, bytes]:
    return {} if config is None else {member.node: member.storage_id for member in config.members}


def test_a_lost_disk_is_removed_first() -> None:
    _, membership = applied()
    removed = membership.next_config(start_seq=2)
    assert removed is not None
    assert removed.number == 2
    assert storage_of(removed) == {"n1": STORAGE["n1"], "n2": STORAGE["n2"]}


def test_it_is_added_once_the_removal_has_committed() -> None:
    shared, membership = applied()
    removed = membership.next_config(start_seq=2)
    assert removed is not None
    shared.configs.adopt(command_frame(LOG[6]), removed)
    assert membership.next_config(start_seq=2) is None
    shared.commit_seq = 8
    assert storage_of(membership.next_config(start_seq=2)) == {**STORAGE, "n3": FRESH}


def test_replacing_in_one_step_is_the_ablation() -> None:
    _, membership = applied(Rules(replace_in_two_steps=False))
    assert storage_of(membership.next_config(start_seq=2)) == {**STORAGE, "n3": FRESH}


def test_nothing_changes_before_the_own_epoch_start_has_committed() -> None:
    _, membership = applied(commit=6)
    assert membership.next_config(start_seq=7) is None


def test_who_has_not_caught_up_or_holds_another_log_does_not_apply() -> None:
    _, behind = applied(seq=5)
    assert behind.next_config(start_seq=2) is None
    shared, membership = applied(seq=5)
    membership.on_ack(KEY["n3"], Ack(1, FRESH, 7, b"?" * 16, 1, 1, 1))
    assert membership.next_config(start_seq=2) is None
    membership.on_ack(12345, ack_of(LOG[6]))
    assert membership.next_config(start_seq=2) is None
    assert shared.config is not None


def test_who_has_its_vote_already_is_not_removed() -> None:
    shared, membership = applied()
    membership.applicants[KEY["n3"]] = STORAGE["n3"]
    assert membership.next_config(start_seq=2) is None
    assert not membership.applicants
    assert shared.is_voter(KEY["n3"], STORAGE["n3"])


def test_the_last_member_is_never_removed() -> None:
    shared, membership = applied()
    alone = Configuration(2, tuple(member for member in CONFIG.members if member.node == "n3"))
    shared.configs.adopt(LOG[6], alone)
    assert membership.next_config(start_seq=2) is None
