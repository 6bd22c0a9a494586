import msgpack
import pytest

from mcast.bench import load
from mcast.machine.kv import KeyValue


@pytest.mark.parametrize("size", [8, 9, 10, 11, 12, 16, 17, 64, 255, 256, 1_024, 65_536, 100_000])
def test_commands_have_the_size_asked_for(size: int) -> None:
    made = load.commands(size)
    sizes = {len(msgpack.packb(command)) for command in made}
    assert max(sizes) - min(sizes) == 0
    assert abs(load.event_bytes(size) - size) <= 3  # msgpack's length fields step
    assert size > load.INCR_SIZE_MAX or load.event_bytes(size) == size


@pytest.mark.parametrize("size", [load.SIZE_MIN, 12, load.INCR_SIZE_MAX, 300])
def test_commands_are_what_the_machine_takes(size: int) -> None:
    arities = KeyValue.commands()
    made = load.commands(size)
    for command in made:
        least, most = arities[command[0]]
        assert least <= len(command) - 1 <= most
    assert 10 <= len({command[1] for command in made}) <= load.KEYS


def test_larger_states_have_as_many_keys_as_asked_for() -> None:
    made = load.commands(64, keys=20_000)
    assert len({command[1] for command in made}) == 20_000
    assert {len(msgpack.packb(command)) for command in made} == {64}
