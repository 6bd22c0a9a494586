"""A machine is found by name; each way of not finding it says what to do."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcast.errors import ConfigError
from mcast.machine.kv import KeyValue
from mcast.machine.loading import load_machine


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[str]:
    text = "from mcast.machine.api import StateMachine\nclass Mine(StateMachine): ...\nOTHER = 1\n"
    (tmp_path / "machine_of_the_test.py").write_text(text)
    (tmp_path / "broken_machine_of_the_test.py").write_text("1 / 0\n")
    path = list(sys.path)
    yield str(tmp_path)
    sys.path[:] = path
    sys.modules.pop("machine_of_the_test", None)


def test_the_built_in_machine_is_found() -> None:
    assert load_machine("mcast.machine.kv:KeyValue") is KeyValue


def test_a_machine_beside_the_config_is_found(folder: str) -> None:
    assert load_machine("machine_of_the_test:Mine", folder).__name__ == "Mine"
    assert sys.path[0] == folder


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("kv", 'write "module:Class"'), (":X", 'write "module:Class"'), ("no_such_module_here:X", "no module named"),
        ("machine_of_the_test:Missing", "there is: Mine"), ("machine_of_the_test:OTHER", "derive it from"),
        ("broken_machine_of_the_test:X", "raised ZeroDivisionError"),
        ("mcast.machine.api:StateMachine", "derive it from"),
    ],
)  # fmt: skip
def test_what_is_no_machine_is_one_clear_error(folder: str, spec: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_machine(spec, folder)
    assert words in str(refused.value) and refused.value.field == "machine"
