"""Draws are a function of the seed alone, and uniform enough to be used."""

import pytest

from mcast.machine.draws import Draws


def test_the_stream_is_pinned_for_ever() -> None:
    assert Draws(b"seed").randbytes(8).hex() == "4905dd2e3a9a2062"
    assert [Draws(b"seed").randint(1, 6) for _ in range(3)] == [Draws(b"seed").randint(1, 6)] * 3


def test_draws_do_not_depend_on_how_the_stream_is_cut() -> None:
    one, other = Draws(b"a"), Draws(b"a")
    assert one.randbytes(150) == other.randbytes(1) + other.randbytes(80) + other.randbytes(69)


def test_other_seeds_draw_otherwise() -> None:
    assert Draws(b"a").getrandbits(128) != Draws(b"b").getrandbits(128)


def test_every_draw_stays_in_its_range_and_reaches_all_of_it() -> None:
    draws = Draws(b"range")
    assert {draws.randrange(5) for _ in range(200)} == set(range(5))
    assert {draws.randint(-1, 1) for _ in range(100)} == {-1, 0, 1}
    assert {draws.choice("abc") for _ in range(100)} == set("abc")
    assert all(0 <= draws.random() < 1 for _ in range(100))
    assert 0.45 < sum(draws.random() for _ in range(2000)) / 2000 < 0.55
    assert all(draws.getrandbits(3) < 8 for _ in range(50))


def test_shuffle_and_sample_keep_the_items() -> None:
    draws = Draws(b"deck")
    deck = list(range(52))
    draws.shuffle(deck)
    assert sorted(deck) == list(range(52)) != deck
    hand = draws.sample(deck, 5)
    assert len(set(hand)) == 5 and set(hand) <= set(deck)


def test_empty_ranges_are_refused() -> None:
    draws = Draws(b"")
    for method, *arguments in (("randrange", 0), ("choice", []), ("randint", 2, 1), ("sample", [1], 2)):
        with pytest.raises(ValueError, match="draw"):
            getattr(draws, str(method))(*arguments)
