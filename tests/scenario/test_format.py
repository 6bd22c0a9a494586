import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mcast.errors import ConfigError
from mcast.scenario import load_scenario
from mcast.scenario.model import Scenario

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("*.toml"))
WHOLE = """
name = "burst-loss"
[cluster]
nodes = 3
observers = 1
machine = "mcast.machine.kv:KeyValue"
sync = "always"
profile = "fast"
mtu = 9000
sealed = true
[workload]
rate = 2000
seconds = 10
clients = 2
commands = [["incr", "k{n%100}", 1], ["cas", "reg", 1, 2]]
[[fault]]
at = 2.0
for = 3.0
node = "n2"
kind = "loss"
percent = 30
[[fault]]
at = 4
node = ["n1", "n3"]
kind = "partition"
[expect]
outage_ms_max = 1000
repair_p99_ms_max = 100
recovered_within_s = 5
"""
LEAST = 'name = "a"\n[workload]\nrate = 1\nseconds = 1\ncommands = [["set", "k", 1]]'
Load = Callable[[str], Scenario]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(text: str) -> Scenario:
        file = tmp_path / "scenario.toml"
        file.write_text(text)
        return load_scenario(file)

    return load


def test_a_whole_file_is_read(load: Load) -> None:
    scenario = load(WHOLE)
    assert scenario.cluster.ids == ("n1", "n2", "n3", "n4") and scenario.cluster.members == ("n1", "n2", "n3")
    assert scenario.workload.count == 20_000
    assert scenario.workload.commands[0](123) == ["incr", "k23", 1]
    first, second = scenario.faults
    assert (first.at, first.for_s, first.nodes, first.kind, first.percent) == (2.0, 3.0, ("n2",), "loss", 30.0)
    assert (second.at, second.for_s, second.nodes, second.kind) == (4.0, None, ("n1", "n3"), "partition")
    assert scenario.expect.repair_p99_ms_max == 100
    assert scenario.ends_s == 10


def test_the_least_file_is_enough(load: Load) -> None:
    scenario = load(LEAST)
    assert len(scenario.cluster.ids) == 3 and scenario.faults == () and scenario.expect.outage_ms_max is None


def test_the_run_lasts_until_the_last_fault_is_over(load: Load) -> None:
    assert load(WHOLE.replace("at = 4\n", "at = 4\nfor = 20\n")).ends_s == 24


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda file: file.stem)
def test_the_projects_own_scenarios_are_good(file: Path) -> None:
    assert load_scenario(file).name == file.stem


def test_there_are_scenarios() -> None:
    assert {file.stem for file in SCENARIOS} >= {"smoke", "uniform-loss"}


@pytest.mark.parametrize(
    ("old", "new", "field", "words"),
    [
        ("nodes = 3", "nodse = 3", "cluster.nodse", "did you mean `nodes`"),
        ('name = "burst-loss"', 'name = "burst-loss"\nlosses = 1', "losses", "unknown key"),
        ('name = "burst-loss"', "", "name", "missing"),
        ('name = "burst-loss"', 'name = "x"\n"odd\\nkey" = 1', r"'odd\nkey'", "unknown key"),
        ("nodes = 3", f"nodes = 0x{'f' * 5_000}", "cluster.nodes", "'...'"),
        ('name = "burst-loss"', 'name = "../x"', "name", "not a plain name"),
        ("nodes = 3", "nodes = 0", "cluster.nodes", "out of range"),
        ("observers = 1", "observers = 14", "cluster.observers", "at most 16"),
        ("nodes = 3", 'nodes = "3"', "cluster.nodes", "whole number"),
        ('"always"', '"never"', "cluster.sync", "always"),
        ("mtu = 9000", "mtu = 100", "cluster.mtu", "whole bytes"),
        ("mcast.machine.kv:KeyValue", "nowhere:Machine", "machine", "no module"),
        ("rate = 2000", "rate = -1", "workload.rate", "above 0"),
        ("rate = 2000", "rate = inf", "workload.rate", "above 0"),
        ("rate = 2000", "rate = 1e9", "workload.rate", "commands"),
        ("seconds = 10", "seconds = nan", "workload.seconds", "above 0"),
        ("clients = 2", "clients = 0", "workload.clients", "out of range"),
        ('["incr", "k{n%100}", 1]', '["incr", "k{n%0}", 1]', "workload.commands[#1]", "plain number above 0"),
        ('["incr", "k{n%100}", 1]', '["inc", "k", 1]', "workload.commands[#1]", "unknown command 'inc'"),
        ('["cas", "reg", 1, 2]', '["cas", "reg", 1]', "workload.commands[#2]", "takes 3 arguments"),
        ('["cas", "reg", 1, 2]', "[1]", "workload.commands[#2]", "begins with a name"),
        ('["cas", "reg", 1, 2]', '"cas"', "workload.commands[#2]", "list of commands"),
        ("clients = 2", 'file = "commands.jsonl"', "workload.file", "beside commands"),
        ("at = 2.0", "at = -2.0", "fault[#1].at", "0 or more"),
        ("for = 3.0", "for = 0", "fault[#1].for", "above 0"),
        ('"n2"', '"n5"', "fault[#1].node", "no such node"),
        ('"n2"', '"leader"', "fault[#1].node", "sequencer"),
        ('["n1", "n3"]', '["n1", "all"]', "fault[#2].node", "no such node"),
        ('["n1", "n3"]', '["n1", "n1"]', "fault[#2].node", "twice"),
        ('["n1", "n3"]', "[]", "fault[#2].node", "names no node"),
        ('["n1", "n3"]', '"all"', "fault[#2].node", "nobody"),
        ('"loss"', '"losss"', "fault[#1].kind", "use one of"),
        ("percent = 30", "percent = 0", "fault[#1].percent", "above 0"),
        ("percent = 30", "percent = 101", "fault[#1].percent", "at most 100"),
        ("percent = 30", "", "fault[#1].percent", "missing"),
        ("percent = 30", "percent = 30\nms = 5", "fault[#1].ms", "means nothing"),
        ('kind = "partition"', 'kind = "delay"\nms = -1', "fault[#2].ms", "milliseconds above 0"),
        ("outage_ms_max = 1000", "outage_ms_max = -1", "expect.outage_ms_max", "above 0"),
        ("recovered_within_s = 5", "recovered_within_s = 1e6", "expect.recovered_within_s", "at most 600"),
    ],
)
def test_what_cannot_run_is_one_line_with_field_value_and_fix(
    load: Load, old: str, new: str, field: str, words: str
) -> None:
    assert old in WHOLE
    with pytest.raises(ConfigError) as caught:
        load(WHOLE.replace(old, new))
    assert caught.value.field == field
    assert words in str(caught.value) and "\n" not in str(caught.value)


FATAL = '[[fault]]\nat = 1\nnode = {node}\nkind = "kill"\n'


@pytest.mark.parametrize("node", ['"all"', '"followers"', '["n1", "n2"]'])
def test_a_dead_majority_recovers_never(load: Load, node: str) -> None:
    with pytest.raises(ConfigError, match="no majority is left alive"):
        load(WHOLE.replace("[expect]", FATAL.format(node=node) + "[expect]"))
    load(WHOLE.replace("[expect]", FATAL.format(node=node) + "for = 1\n[expect]"))


def test_no_outage_is_shorter_than_the_silence_that_shows_it(load: Load) -> None:
    killed = WHOLE.replace("[expect]", FATAL.format(node='"sequencer"') + "[expect]")
    assert load(killed)
    with pytest.raises(ConfigError, match="missed only after 150 ms"):
        load(killed.replace("outage_ms_max = 1000", "outage_ms_max = 100"))


def test_shares_that_meet_at_a_node_stay_within_all_of_them(load: Load) -> None:
    second = '[[fault]]\nat = 3\nnode = {node}\nkind = "dup"\npercent = 80\n[expect]'
    with pytest.raises(ConfigError, match="110 % of a node's datagrams"):
        load(WHOLE.replace("[expect]", second.format(node='"all"')))
    load(WHOLE.replace("[expect]", second.format(node='"n1"')))
    load(WHOLE.replace("[expect]", second.format(node='"all"').replace("at = 3", "at = 5")))


def test_a_file_that_is_none(tmp_path: Path, load: Load) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_scenario(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="not TOML"):
        load("name = ")


def test_commands_may_come_from_a_file_beside_it(tmp_path: Path, load: Load) -> None:
    (tmp_path / "commands.jsonl").write_text(json.dumps(["set", "k", 1]) + "\n")
    text = 'name = "a"\n[workload]\nrate = 1\nseconds = 1\nfile = "commands.jsonl"'
    assert load(text).workload.file == tmp_path / "commands.jsonl"
    with pytest.raises(ConfigError, match="no such file"):
        load(text.replace("commands.jsonl", "other.jsonl"))
