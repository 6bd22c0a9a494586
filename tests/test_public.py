"""What a program gets from `mcast`, gives to it or catches of it has a name there."""

import subprocess
import sys
from collections.abc import AsyncGenerator
from importlib.metadata import version
from typing import get_type_hints

import mcast


def test_what_calls_return_has_a_public_name() -> None:
    assert get_type_hints(mcast.Client.submit)["return"] is mcast.Receipt
    assert get_type_hints(mcast.Client.submit_many)["return"] is mcast.Receipts
    assert get_type_hints(mcast.Client.query)["return"] is mcast.QueryAnswer
    assert get_type_hints(mcast.Client.subscribe)["return"] is mcast.Events
    assert issubclass(mcast.Events, AsyncGenerator)


def test_what_handlers_and_configs_hold_has_a_public_name() -> None:
    assert get_type_hints(vars(mcast.Context)["random"].fget)["return"] is mcast.Draws
    assert get_type_hints(mcast.Config)["nodes"] == tuple[mcast.NodeConfig, ...]


def test_a_directory_in_use_can_be_told_from_other_problems_of_the_environment() -> None:
    assert issubclass(mcast.InUse, mcast.EnvironmentProblem)


def test_a_client_shows_no_callbacks() -> None:
    names = [name for name in dir(mcast.Client) if not name.startswith("_")]
    assert not [name for name in names if name.startswith("link_") or name in ("waiting", "progress")]


def test_the_version_is_the_distributions_and_costs_nothing_until_it_is_asked_for() -> None:
    assert mcast.__version__ == version("mcast-fabric")
    look = "import sys, mcast; assert 'importlib.metadata' not in sys.modules"
    subprocess.run([sys.executable, "-S", "-c", look], check=True)
