"""The switch: learns, floods, and loses only where and as often as its rules say."""

from __future__ import annotations

from mcast.lab.switch import Switch

A, B, GROUP = (bytes([number] * 6) for number in (2, 4, 1))


def frame(target: bytes, sender: bytes) -> bytes:
    return target + sender + b"\x08\x00payload"


def test_an_unknown_or_multicast_target_is_flooded_and_a_learned_one_is_not() -> None:
    switch = Switch(["a", "b", "c"], lambda: 0.0)
    assert switch.forward("a", frame(B, A)) == ["b", "c"]
    assert switch.forward("b", frame(A, B)) == ["a"]
    assert switch.forward("a", frame(B, A)) == ["b"]
    assert switch.forward("a", frame(GROUP, A)) == ["b", "c"]
    assert switch.forward("b", frame(B, A)) == [], "back to where it came from"


def test_a_cut_link_is_cut_in_its_direction_alone_until_the_next_rules() -> None:
    switch = Switch(["a", "b", "c"], lambda: 0.999)
    switch.set_losses({"a>b": 1.0})
    assert switch.forward("a", frame(GROUP, A)) == ["c"]
    assert switch.forward("b", frame(GROUP, B)) == ["a", "c"]
    switch.set_losses({})
    assert switch.forward("a", frame(GROUP, A)) == ["b", "c"]


def test_a_lossy_link_loses_its_share() -> None:
    draws = [0.1, 0.29, 0.3, 0.9]
    switch = Switch(["a", "b"], iter(draws).__next__)
    switch.set_losses({"a>b": 0.3})
    assert [switch.forward("a", frame(GROUP, A)) for _ in draws] == [[], [], ["b"], ["b"]]
