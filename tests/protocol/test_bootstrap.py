import random
from collections.abc import Sequence
from typing import Any

import pytest

from mcast.errors import DecodeError
from mcast.protocol.arrivals import Arrival
from mcast.protocol.bootstrap import members_hash, read_genesis_untrusted
from mcast.protocol.effects import Append, Effect, Meta, Send, Truncate, WriteMeta
from mcast.protocol.recovered import Recovered
from mcast.protocol.replica import Replica
from mcast.protocol.rules import Rules
from mcast.wire.frame import CHAIN_ZERO, Frame, decode_frame_untrusted, make_frame
from mcast.wire.messages import Confirm, Found, GenesisOffer, Stale, Virgin, VoteRequest

from .bench import KEY, NODES, STORAGE, arrival, drain, genesis, of, recovered, replica, settings
from .test_following import LOG, beat

HASH = members_hash(settings().members)


def founder(rules: Rules | None = None, frames: Sequence[Frame] = ()) -> tuple[Replica, list[Effect]]:
    node = replica("n1", frames, 0, rules)
    node.tick(0.0)
    return node, drain(node, 0.0)


def virgin(sender: str, found: Found, **how: bytes) -> Arrival:
    fields = {"nonce": found.nonce, "storage_id": STORAGE[sender], "members_hash": HASH} | how
    return arrival(sender, Virgin(**fields))


def test_only_the_first_member_calls() -> None:
    _, effects = founder()
    assert of(Found, effects)
    other = replica("n2")
    other.tick(5.0)
    assert drain(other, 5.0) == []


def test_genesis_needs_every_member() -> None:
    node, effects = founder()
    (found,) = of(Found, effects)
    node.receive([virgin("n2", found)], 0.1)
    assert of(Append, drain(node, 0.1)) == []
    node.tick(0.2)
    assert node.statistics().bootstrap_waits_for == ("n3",)
    drain(node, 0.2)
    node.receive([virgin("n3", found)], 0.3)
    effects = drain(node, 0.3)
    (append,) = of(Append, effects)
    assert {each.to for each in effects if isinstance(each, Send) and isinstance(each.message, GenesisOffer)} == {
        KEY["n2"],
        KEY["n3"],
    }
    assert append.frames[0].first == 1


def test_with_the_ablation_a_majority_is_enough() -> None:
    node, effects = founder(Rules(bootstrap_by_all=False))
    node.receive([virgin("n2", of(Found, effects)[0])], 0.1)
    assert of(Append, drain(node, 0.1))


def test_an_echo_of_another_call_or_list_does_not_count() -> None:
    node, effects = founder()
    (found,) = of(Found, effects)
    node.receive([virgin("n2", found, nonce=b"?" * 16), virgin("n3", found, members_hash=b"?" * 16)], 0.1)
    node.tick(0.2)
    assert set(node.statistics().bootstrap_waits_for) == {"n2", "n3"}


def founded() -> tuple[Replica, list[Effect]]:
    node, effects = founder()
    (found,) = of(Found, effects)
    node.receive([virgin("n2", found), virgin("n3", found)], 0.1)
    effects = drain(node, 0.1)
    return node, effects


def test_the_first_vote_waits_for_every_confirmation() -> None:
    node, effects = founded()
    frame = of(Append, effects)[0].frames[0]
    node.receive([arrival("n2", Confirm(frame.chain, STORAGE["n2"]))], 0.2)
    assert of(VoteRequest, drain(node, 0.2)) == []
    node.receive([arrival("n3", Confirm(b"?" * 16, STORAGE["n3"]))], 0.2)
    assert of(VoteRequest, drain(node, 0.2)) == []
    node.receive([arrival("n3", Confirm(frame.chain, STORAGE["n3"]))], 0.3)
    (request,) = of(VoteRequest, drain(node, 0.3))
    assert request.epoch == 1


def test_a_restarted_founder_offers_the_same_genesis() -> None:
    frame = genesis()
    _node, effects = founder(frames=[frame])
    offers = of(GenesisOffer, effects)
    assert {decode_frame_untrusted(offer.frame).chain for offer in offers} == {frame.chain}


def test_a_member_that_lost_its_disk_before_the_first_vote_makes_the_founder_begin_anew() -> None:
    node, effects = founder(frames=[genesis()])
    (found,) = of(Found, effects)
    node.receive([virgin("n2", found, storage_id=b"fresh".ljust(16))], 0.1)
    assert of(Truncate, drain(node, 0.1))
    node.tick(0.2)
    (again,) = of(Found, drain(node, 0.2))
    node.receive([virgin("n2", again, storage_id=b"fresh".ljust(16)), virgin("n3", again)], 0.3)
    assert of(Append, drain(node, 0.3))


def offer(frame: Frame) -> Arrival:
    return arrival("n1", GenesisOffer(frame.head + frame.body))


def test_a_member_stores_genesis_before_confirming_it() -> None:
    node = replica("n2")
    node.receive([offer(genesis())], 0.1)
    effects = node.take_effects()
    (append,) = of(Append, effects)
    assert of(Confirm, effects) == []
    node.complete(append.ticket, 0.2)
    (confirm,) = of(Confirm, node.take_effects())
    assert (confirm.chain, confirm.storage_id) == (genesis().chain, STORAGE["n2"])


def test_a_virgin_member_replaces_an_earlier_genesis() -> None:
    old = genesis()
    node = Replica(settings("n2"), recovered("n2", [old]), random.Random(1), 0.0)
    newer = genesis()._replace()
    newer = make_frame(0, 1, 1, 0, 99, CHAIN_ZERO, old.body)
    node.receive([offer(newer)], 0.1)
    effects = drain(node, 0.1)
    assert [type(effect) for effect in effects[:2]] == [Truncate, Append]
    assert node.last_chain == newer.chain


def test_who_has_promised_an_epoch_takes_no_genesis() -> None:
    node = replica("n2", [genesis()], promised=1)
    node.receive([offer(make_frame(0, 1, 1, 0, 99, CHAIN_ZERO, genesis().body))], 0.1)
    assert node.last_chain == genesis().chain


def test_a_genesis_without_us_or_with_garbage_is_refused() -> None:
    node = Replica(settings("n2"), recovered("n3"), random.Random(1), 0.0)
    node.receive([offer(genesis()), arrival("n1", GenesisOffer(b"garbage"))], 0.1)
    assert drain(node, 0.1) == []
    assert node.statistics().counts == {"genesis without us": 1, "bad genesis": 1}


def test_one_member_alone_is_a_cluster() -> None:
    node = Replica(settings("n1", members=["n1"]), recovered("n1"), random.Random(1), 0.0)
    now = 0.0
    for _ in range(30):
        node.tick(now)
        drain(node, now)
        if node.is_sequencer:
            break
        now = max(now + 0.001, min(node.next_deadline(), now + 0.1))
    assert node.is_sequencer
    assert node.commit_seq == 2


def test_nobody_else_stands_before_the_founder_has_called() -> None:
    node = replica("n2", [genesis()])
    for step in range(60):
        node.tick(step / 10)
        assert drain(node, step / 10) == []
    assert NODES


@pytest.mark.parametrize("frames", [[], [genesis()]])
def test_a_promise_which_may_be_forged_ends_no_bootstrap(frames: list[Frame]) -> None:
    for node in (replica("n1", frames, promised=9), replica("n1", frames)):
        node.receive([arrival("n3", Stale(0), promised=9)], 0.1)
        drain(node, 0.1)
        node.tick(0.5)
        assert of(Found, drain(node, 0.5))
        assert (node.statistics().role, node.promised) == ("bootstrap", 9)


def test_who_leads_ends_a_bootstrap() -> None:
    node = replica("n1", [genesis()])
    node.receive([arrival("n2", beat(LOG, 1), promised=1)], 0.1)
    drain(node, 0.1)
    assert (node.statistics().role, node.sequencer) == ("follower", KEY["n2"])


def test_who_has_voted_or_came_back_with_another_disk_founds_no_more() -> None:
    voted = Meta(STORAGE["n1"], promised=7, voted_epoch=1, voted_for=KEY["n1"])
    for meta in (voted, Meta(b"fresh".ljust(16), promised=7)):
        node = Replica(settings("n1"), Recovered(meta, frames=(genesis(),)), random.Random(1), 0.0)
        node.receive([arrival("n2", Found(bytes(16), bytes(16)), promised=7)], 0.1)
        assert of(Virgin, drain(node, 0.1)) == []
        assert node.statistics().role == "follower"


def test_a_genesis_is_replaced_under_a_promise_only_by_the_process_that_asked() -> None:
    newer = make_frame(0, 1, 1, 0, 99, CHAIN_ZERO, genesis().body)
    for asks in (False, True):
        node = replica("n2", [genesis()], promised=1)
        if asks:
            node.receive([arrival("n1", Found(bytes(16), bytes(16)), promised=1)], 0.1)
        node.receive([arrival("n1", GenesisOffer(newer.head + newer.body), promised=1)], 0.1)
        assert (node.last_chain == newer.chain) is asks


def test_who_is_about_to_promise_an_epoch_takes_no_genesis() -> None:
    node = replica("n2", [genesis()])
    node.receive([arrival("n3", Stale(0), promised=1)], 0.1)
    node.receive([offer(make_frame(0, 1, 1, 0, 99, CHAIN_ZERO, genesis().body))], 0.1)
    assert of(Truncate, node.take_effects()) == []
    assert node.last_chain == genesis().chain


def test_a_confirmation_counts_under_the_storage_id_that_genesis_lists() -> None:
    node, effects = founded()
    frame = of(Append, effects)[0].frames[0]
    confirms = [Confirm(frame.chain, STORAGE["n2"]), Confirm(frame.chain, b"fresh".ljust(16))]
    node.receive([arrival(sender, confirm) for sender, confirm in zip(("n2", "n3"), confirms, strict=True)], 0.2)
    assert of(VoteRequest, drain(node, 0.2)) == []


def stored_late() -> tuple[Replica, Append, Found]:
    """A founder whose GENESIS is still being written."""
    node, effects = founder()
    (found,) = of(Found, effects)
    node.receive([virgin("n2", found), virgin("n3", found)], 0.1)
    (append,) = of(Append, node.take_effects())
    return node, append, found


def test_genesis_is_offered_only_once_it_is_stored() -> None:
    node, append, _ = stored_late()
    node.tick(1.0)
    assert of(GenesisOffer, node.take_effects()) == []
    node.complete(append.ticket, 1.1)
    assert of(GenesisOffer, node.take_effects())


def test_a_genesis_that_was_dropped_while_it_was_written_founds_nothing() -> None:
    node, append, found = stored_late()
    node.receive([virgin("n2", found, storage_id=b"fresh".ljust(16))], 0.2)
    assert of(Truncate, node.take_effects())
    node.complete(append.ticket, 0.3)
    effects = drain(node, 0.3)
    assert of(GenesisOffer, effects) == []
    assert of(WriteMeta, effects) == [], "nor is an epoch promised"


def test_genesis_is_confirmed_only_once_it_is_stored_however_often_it_is_offered() -> None:
    node = replica("n2")
    node.receive([offer(genesis()), offer(genesis())], 0.1)
    effects = node.take_effects()
    assert of(Confirm, effects) == []
    node.complete(of(Append, effects)[0].ticket, 0.2)
    assert of(Confirm, node.take_effects())


def test_a_stranger_takes_no_members_place() -> None:
    node, effects = founder()
    (found,) = of(Found, effects)
    envelope, message = virgin("n3", found)
    node.receive([virgin("n2", found), (envelope._replace(sender=12345), message)], 0.1)
    assert of(Append, drain(node, 0.1)) == []


def test_a_founder_takes_nobodys_genesis() -> None:
    node, _ = founder()
    node.receive([offer(genesis())], 0.1)
    assert of(Append, drain(node, 0.1)) == []


def test_a_genesis_drawn_anew_needs_every_member_again() -> None:
    node, _, found = stored_late()
    fresh = virgin("n2", found, storage_id=b"fresh".ljust(16))
    node.receive([fresh], 0.2)
    drain(node, 0.2)
    node.receive([fresh], 0.3)
    assert of(Append, drain(node, 0.3)) == []
    node.receive([virgin("n3", found)], 0.4)
    assert of(Append, drain(node, 0.4))


@pytest.mark.parametrize("wrong", [{"epoch": 1}, {"first": 2}, {"chain_before": b"?" * 16}])
def test_genesis_is_event_1_of_epoch_0_on_the_zero_chain(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"epoch": 0, "first": 1, "chain_before": CHAIN_ZERO} | wrong
    frame = make_frame(fields["epoch"], fields["first"], 1, 0, 1, fields["chain_before"], genesis().body)
    with pytest.raises(DecodeError):
        read_genesis_untrusted(frame)
