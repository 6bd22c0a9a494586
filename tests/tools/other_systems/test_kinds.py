import importlib.util
import sys
from importlib.metadata import version

import pytest

from tools.other_systems.kinds import KINDS, OURS, OURS_SYNCED, USUAL, PeerKind


@pytest.mark.parametrize("name", KINDS)
def test_every_system_has_a_module_and_words(name: str) -> None:
    kind = KINDS[name]
    assert importlib.util.find_spec(kind.module.partition(":")[0]) is not None
    assert kind.title and kind.acknowledged
    assert bool(kind.install) == bool(kind.programs or kind.packages), "what it needs can be installed by a command"
    assert KINDS[kind.beside].beside == kind.beside


def test_what_is_missing_is_named() -> None:
    kind = PeerKind(title="", acknowledged="", module="", programs=["sh", "nonesuch-d"], packages=["json", "nonesuch"])
    assert kind.missing() == "nonesuch-d, nonesuch"
    assert KINDS[OURS].missing() is None


def test_a_version_is_what_the_program_says() -> None:
    reported = [sys.executable, "-c", "print('Nonesuch Engine, version 3.1.7-1 built by 12')"]
    assert PeerKind(title="", acknowledged="", module="", programs=["x"], version_words=reported).version() == "3.1.7"
    assert PeerKind(title="", acknowledged="", module="", version_words=[sys.executable, "-c", ""]).version() == ""
    assert PeerKind(title="", acknowledged="", module="", packages=["msgpack"]).version() == version("msgpack")
    assert PeerKind(title="", acknowledged="", module="", packages=["nonesuch"]).version() == ""


def test_what_syncs_stands_beside_what_syncs() -> None:
    assert {name for name in USUAL if KINDS[name].beside == OURS_SYNCED} == {OURS_SYNCED, "etcd"}
