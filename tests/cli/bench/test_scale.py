import json
from typing import Any

import pytest

from mcast.bench.scale import FIGURES, ROLES
from mcast.cli.bench import scale
from mcast.cli.exits import ExitCode
from mcast.errors import ConfigError
from tests.bench.overload import PATIENCE, command_unless_overloaded

SPREAD = {"median": 2.5, "min": 2.0, "max": 3.0}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0", (0,)),
        ("1,2 , 3", (1, 2, 3)),
        ("0.5%,1%", (0.5, 1)),
        ("1k,1Ki,2M,3Mi", (1_000, 1_024, 2_000_000, 3 << 20)),
    ],
)
def test_values_are_read(text: str, values: tuple[float, ...]) -> None:
    assert scale._parse(text, 0, 1e8) == values


@pytest.mark.parametrize("text", ["", "many", "2,1", "1,1", "1,", "-1", "1e3", "nan", "200M", "1" * 40, ",".join("1234567890" * 4)])  # fmt: skip # noqa: E501
def test_bad_values_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        scale._parse(text, 0, 1e8)
    assert str(refused.value).startswith("--values = ")


def document(**changed: Any) -> dict[str, Any]:
    point = {
        "value": 1_024.0, "broken": None, "events_per_s": SPREAD, "pace": {"median": 0.5},
        **{role: dict.fromkeys(FIGURES, SPREAD) for role in ROLES},
    }  # fmt: skip
    return {
        "sweep": "size", "workload": {"nodes": 3, "sealed": True, "sync": "os", "mtu": 1_500},
        "growth": {"sequencer": {"cpu_us": 1.5, "user_us": 1.25}, "clients": {"cpu_us": None, "user_us": None}},
        "points": [point, {"value": 2_048.0, "broken": "n2 died"}], **changed,
    }  # fmt: skip


def test_scale_is_a_row_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    scale.show(document())
    said = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()[:1].isdigit()}
    assert rows["1,024"] == ["2.5", "2", "3", "2.5"] * 2 + ["2.5"] * 6 + ["50%"]
    assert rows["2,048"] == ["-"] * 15
    assert said.endswith("for one byte, the last value by the first: sequencer 1.5 times (user 1.25)\n")


@PATIENCE
def test_the_command_prints_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    words = "bench scale clients --values 1,2 --events 1000 --rounds 1 --nodes 1 --no-key --json"
    code, said, _ = command_unless_overloaded(words, capsys)
    assert code == ExitCode.OK
    reported = json.loads(said)
    assert (reported["bench"], reported["sweep"]) == ("scale", "clients")
    assert [point["value"] for point in reported["points"]] == [1, 2]
