import pytest

from mcast.errors import Error
from mcast.testing import NondeterminismError, deterministic

from .machines import Accounts, Hashing, Typo

WORDS = [("note", f"word{n}") for n in range(200)]


def test_an_honest_machine_passes() -> None:
    deterministic(Accounts, [("deposit", "ann", n) for n in range(100)] + [("transfer", "ann", "bob", 10**9)])


def test_a_machine_that_depends_on_hashing_is_found() -> None:
    with pytest.raises(NondeterminismError, match="after commands 0 to 63") as found:
        deterministic(Hashing, WORDS)
    assert (found.value.first, found.value.last) == (0, 63)


def test_a_run_that_fails_says_so() -> None:
    class Hidden(Accounts):
        pass

    with pytest.raises(Error, match="a run of the commands failed: AttributeError"):
        deterministic(Hidden, WORDS)


def test_commands_that_all_fail_show_nothing() -> None:
    with pytest.raises(Error, match=r"all 3 commands failed; the first: sell: AttributeError: .*'stok'.*, in sell\)"):
        deterministic(Typo, [("sell", n) for n in range(3)])
    with pytest.raises(Error, match="all 2 commands failed; the first: UnknownCommand"):
        deterministic(Typo, [("buy", 1), ("buy", 2)])
    deterministic(Typo, [("sell", 1), ("stock_up", 1)])
