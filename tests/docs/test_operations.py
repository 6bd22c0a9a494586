"""The operator's manual against the code: every key, field, limit, reason and command it names, and none missing."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import typer

import mcast
from mcast import limits
from mcast.bench.scale import SWEEPS
from mcast.bench.usage import COUNTED, UsageReading, of_process, used
from mcast.cli import bench, render
from mcast.cli.app import app
from mcast.cli.exits import ExitCode
from mcast.client.admin import NODE_FIELDS
from mcast.config import Config, NodeConfig, default_config, file, parse_config
from mcast.node.notices import NoticeLog
from mcast.protocol.effects import (
    Contradicted,
    EpochChanged,
    GapClosed,
    GapOpened,
    HaltRequired,
    LogRecovered,
    MembersChanged,
    SequencerReady,
    SteppedDown,
    Truncated,
)
from mcast.scenario import format as scenario
from mcast.scenario.model import GROUPS, SHARES, FaultKind
from mcast.testing import cluster
from tests.docs.document import DOCS, fences, tables
from tests.machine.conftest import Notebook

DOCUMENT = "OPERATIONS.md"
TEXT = (DOCS / DOCUMENT).read_text()
PACKAGE = Path(mcast.__file__).parent


def table(*header: str) -> dict[str, list[str]]:
    """The rows of the tables with this header, by their first cell without backticks."""
    found = [rows[1:] for rows in tables(DOCUMENT) if tuple(rows[0]) == header]
    assert found, f"no table with the columns {header}"
    return {row[0].strip("`"): row[1:] for rows in found for row in rows}


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _defaults(struct: type[msgspec.Struct]) -> dict[str, object]:
    return {each.name: each.default for each in msgspec.structs.fields(struct)}


@pytest.mark.parametrize(("index", "struct"), [(0, file._ClusterTable), (1, file._NodeTable)])
def test_every_config_key_stands_in_its_table_with_its_default(index: int, struct: type[msgspec.Struct]) -> None:
    shown = [rows[1:] for rows in tables(DOCUMENT) if rows[0] == ["key", "default", "meaning"]][index]
    defaults = _defaults(struct)
    assert [row[0].strip("`") for row in shown] == list(defaults)
    for key, default, meaning in shown:
        value = defaults[key.strip("`")]
        if value is msgspec.NODEFAULT:
            assert default == "required"
        elif value is None:
            assert default in ("none", "the cluster's")
        else:
            assert default == f"`{json.dumps(value)}`"
        assert len(meaning) > 10


def test_the_config_tables_name_nothing_that_config_objects_lack() -> None:
    derived = {"nodes", "folder"}
    assert set(_defaults(file._ClusterTable)) == {each.name for each in fields(Config)} - derived
    assert set(_defaults(file._NodeTable)) == {each.name for each in fields(NodeConfig)}
    assert all(each.default is MISSING for each in fields(Config) if each.name in derived)


def test_what_init_writes_is_what_the_manual_says(tmp_path: Path) -> None:
    here = parse_config(default_config(tmp_path).encode(), tmp_path / "lab.toml")
    hosts = parse_config(default_config(tmp_path, ["10.0.0.1"]).encode(), tmp_path / "lab.toml")
    assert (here.allow_faults, hosts.allow_faults) == (True, False)
    assert "`mcast init` without `--hosts` writes `true`" in TEXT
    assert here.key_file is None


def test_every_key_and_kind_of_a_scenario_stands_in_its_table() -> None:
    shown = table("scenario key", "default", "meaning")
    structs: dict[str, type[msgspec.Struct]] = {
        "cluster": scenario._ScenarioCluster, "workload": scenario._WorkloadTable, "fault": scenario._FaultTable,
        "expect": scenario._ExpectTable,
    }  # fmt: skip
    assert {each.name for each in msgspec.structs.fields(scenario._ScenarioFile)} == {"name", *structs}
    keys = {"name": msgspec.NODEFAULT} | {
        f"{part}.{each.encode_name}": each.default if each.default_factory is msgspec.NODEFAULT else None
        for part, struct in structs.items() for each in msgspec.structs.fields(struct)
    }  # fmt: skip
    assert list(shown) == list(keys)
    for key, value in keys.items():
        said = {msgspec.NODEFAULT: "required", None: "none"}.get(value, f"`{json.dumps(value, default=str)}`")
        assert shown[key][0] == said, key
    kinds = table("kind", "also takes", "what happens to the node")
    assert tuple(kinds) == get_args(FaultKind)
    assert {kind for kind, (takes, _) in kinds.items() if takes == "`percent`"} == set(SHARES)
    assert all(f'`"{group}"`' in shown["fault.node"][1] for group in GROUPS)


def test_the_bounds_of_a_scenario_are_the_codes() -> None:
    shown = table("scenario key", "default", "meaning")
    bounds: dict[str, list[float]] = {
        "cluster.nodes": [limits.MEMBERS_MAX],
        "cluster.observers": [limits.SCENARIO_NODES_MAX],
        "workload.rate": [limits.SCENARIO_COMMANDS_MAX],
        "workload.clients": [limits.SCENARIO_CLIENTS_MAX],
        "fault.at": [limits.SCENARIO_SECONDS_MAX],
        "fault.for": [limits.SCENARIO_SECONDS_MAX],
        "fault.ms": [limits.SCENARIO_DELAY_MS_MAX],
        "expect.recovered_within_s": [limits.SCENARIO_RECOVERY_S_MAX],
    }
    for key, values in bounds.items():
        assert all(re.search(rf"\b{value:,.0f}\b", shown[key][1]) for value in values), key
    assert f"{limits.MTU_MIN} to {limits.MTU_MAX}" in shown["cluster.mtu"][1]


def test_the_exit_codes_are_all_there() -> None:
    shown = table("code", "meaning", "examples")
    assert sorted(int(code) for code in shown) == sorted(ExitCode)


async def test_every_field_of_a_node_in_status_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    columns = table("column", "JSON field", "meaning", "normal")
    extra = table("field", "meaning", "normal")
    explained = {name for cell, *_ in columns.values() for name in names(cell)}
    explained |= {name for cell in extra for name in names(f"`{cell}`")} | {"id"}
    async with cluster(Notebook, nodes=1) as c:
        document = await c.client.status()
    [status] = document["nodes"]
    assert set(status) | set(NODE_FIELDS) <= explained
    assert explained - set(status) == {"waits_for", "reason", "twin"}, "explained, but reported nowhere"
    render.print_status(document)
    heading = next(line for line in capsys.readouterr().out.splitlines() if "applied" in line)
    assert heading.split() == list(columns)


async def test_every_field_of_a_node_in_gaps_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    columns = table("column", "JSON field", "meaning")
    async with cluster(Notebook, nodes=1) as c:
        gaps = c.node("n1").gaps()
        render.print_gaps(await c.client.gaps())
    heading = next(line for line in capsys.readouterr().out.splitlines() if "injected" in line)
    shown = ["node"] + [column.strip() for key in columns for column in key.replace("`", "").split(",")]
    assert re.split(r"\s{2,}", heading.strip()) == shown
    explained = {name.split(".")[0].split("[")[0] for cell, _ in columns.values() for name in names(cell)}
    assert set(gaps) - {"id"} <= explained


def test_every_bench_and_every_figure_of_a_process_is_explained() -> None:
    benches = {name.split()[2] for cell in table("command", "measures", "beside") for name in names(f"`{cell}`")}
    assert benches == set(typer.main.get_command(bench.app).commands)  # type: ignore[attr-defined]
    explained = {name for cell in table("figure", "meaning") for name in names(f"`{cell}`")}
    moment = UsageReading(0.0, None, 0.0, {"n1": {**of_process(0), **dict.fromkeys(COUNTED)}})
    assert set(used(moment, moment, 1)["per_event"]["n1"]) == explained
    assert all(f"`{sweep}`" in TEXT for sweep in SWEEPS)


def test_every_state_is_explained() -> None:
    from mcast.node import report

    said = {
        node.value for node in ast.walk(ast.parse(Path(report.__file__).read_text()))
        if isinstance(node, ast.Constant) and node.value in ("starting", "catching-up", "live", "halted", "quarantined")
    }  # fmt: skip
    assert said and said <= set(table("state", "meaning", "what to do"))


def _counted() -> set[str]:
    """Every reason under which an arriving datagram or message is refused."""
    found: set[tuple[str, str]] = set()
    for path in (PACKAGE / "protocol").rglob("*.py"):
        counted = r'counts\["([^"]+)"\] \+= 1|on_refused\(envelope, frame, "([^"]+)"\)'
        found |= set(re.findall(counted, path.read_text()))
    found.add(("never proven", ""))  # counted by mcast.seal.incarnations, named by the transport
    assert '"never proven"' in (PACKAGE / "node" / "transport.py").read_text()
    found |= set(re.findall(r'dropped\["([^"]+)"\] \+= (1)', (PACKAGE / "node" / "transport.py").read_text()))
    wire = [PACKAGE / "wire" / f"{name}.py" for name in ("envelope", "frame", "layout", "messages")]
    for path in [*(PACKAGE / "seal").glob("*.py"), *wire, PACKAGE / "node" / "transport.py"]:
        found |= set(re.findall(r'DecodeError\("([^"]+)"(?: if .*? else "([^"]+)")?', path.read_text()))
    return {reason for pair in found for reason in pair if len(reason) > 1}


def test_every_reason_for_refusal_is_explained() -> None:
    patterns = [
        ".*".join(re.escape(part) for part in name.split("..."))
        for cell in table("reason", "likely cause") for name in names(f"`{cell}`")
    ]  # fmt: skip
    reasons = _counted()
    assert len(reasons) > 20
    assert not {reason for reason in reasons if not any(re.fullmatch(pattern, reason) for pattern in patterns)}
    assert not [pattern for pattern in patterns if not any(re.fullmatch(pattern, reason) for reason in reasons)]


def test_the_limits_are_the_codes() -> None:
    shown = table("what", "limit")
    bounds: list[tuple[str, list[int]]] = [
        ("nodes in a cluster", [limits.NODES_MAX, limits.MEMBERS_MAX]),
        ("one command, packed", [limits.COMMAND_BYTES_MAX >> 20, limits.ARITY_MAX, limits.COMMAND_DEPTH_MAX]),
        ("values in one command (`command_values_max` sets another), or in a query's arguments",
         [limits.COMMAND_VALUES_MAX]),
        ("outcomes of one record of commands", [limits.OUTCOMES_BYTES_MAX >> 20]),
        ("text of a rejection", [limits.REJECTION_CHARS_MAX]),
        ("sessions (clients) in the cluster", [limits.SESSIONS_MAX, int(limits.SESSION_IDLE_S),
         int(limits.SESSION_UNUSED_S)]),
        ("sessions opened through one node from one address",
         [limits.ADDRESS_SESSIONS_MAX, limits.ADDRESS_SESSIONS_MIN]),
        ("clients of one node", [limits.CONNECTIONS_MAX]),
        ("unanswered bytes of one client", [limits.GATEWAY_CLIENT_BYTES >> 20, limits.GATEWAY_BYTES >> 20]),
        ("what one connection may have half sent, and leave unread",
         [limits.TCP_MESSAGE_BYTES_MAX >> 20, limits.GATEWAY_WRITE_BYTES >> 20]),
        ("queries waiting at one node", [limits.GATEWAY_READS_WAITING]),
        ("a session query's wait for its event, a bounded query's for a proof",
         [int(limits.SESSION_READ_WAIT_S * 1_000)]),
        ("a bounded query's `max_ms`, if not given", [round(limits.BOUNDED_HEARTBEATS * interval * 1_000)
         for interval in (limits.HEARTBEAT_MAX_S, limits.HEARTBEAT_FAST_S)]),
        ("newest events a node keeps in memory for subscribers", [limits.EVENTS_RECENT_BYTES >> 20]),
        ("keys in a key file", [limits.KEYS_MAX]),
        ("a node id or cluster name", [limits.NAME_BYTES_MAX]),
        ("closed gaps remembered", [limits.LEDGER_CLOSED_MAX]),
        ("timeout of a call", [int(limits.TIMEOUT_S), int(limits.TIMEOUT_MAX_S)]),
        ("how far a node may lag before it uses TCP catch-up", [limits.DEEP_GAP_FRAMES,
         limits.CACHE_BYTES_MAX >> 20]),
    ]  # fmt: skip
    for what, numbers in bounds:
        cells = shown.pop(what)
        said = [int(text.replace(",", "")) for text in re.findall(r"\d[\d,]*", cells[0])]
        assert said == numbers, what
    assert not shown, "limits that nothing here compares"


def test_every_command_it_names_exists() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    blocks = "\n".join(content for info, content in fences(DOCUMENT) if info == "sh")
    named = set(re.findall(r"\bmcast ([a-z]+)", blocks)) | set(re.findall(r"`mcast ([a-z]+)", TEXT))
    assert {"init", "up", "node", "status", "gaps", "fault", "keygen"} <= named
    assert named <= known


def test_every_command_has_its_row() -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    named = [name for cell in table("command", "does") for name in names(f"`{cell}`") if name.strip()]
    assert {name.removeprefix("mcast ").split()[0] for name in named} == known


def test_every_link_between_the_documents_leads_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]*\.md)?(#[^)]*)?\)", path.read_text()):
            other = DOCS / target[0] if target[0] else path
            assert other.exists(), target
            headings = [line.lstrip("# ") for line in other.read_text().splitlines() if line.startswith("#")]
            anchors = {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert not target[1] or target[1] in anchors, f"{path.name}: {target}"


def test_the_messages_of_troubleshooting_are_the_programs_words() -> None:
    source = " ".join(" ".join(path.read_text().split()) for path in PACKAGE.rglob("*.py"))
    source = re.sub(r"\{[^{}]*\}", "{}", source)
    checked = 0
    [symptoms] = [rows[1:] for rows in tables(DOCUMENT) if rows[0] == ["symptom", "likely cause", "try"]]
    for symptom, *_ in symptoms:
        for message in names(symptom):
            for part in re.split(r"\.\.\.|'[^']*'|\d+| = | is missing|: ", message):
                words = part.strip(" :;,()")
                if len(words) >= 12:
                    assert words in source, f"{message!r}: {words!r} is said nowhere"
                    checked += 1
    assert checked > 10


def test_every_line_that_a_node_logs_is_explained() -> None:
    log = NoticeLog({1: "n3"})
    lines = [
        log.line(EpochChanged(4, 1)), log.line(EpochChanged(4, None)), log.line(SequencerReady(4)),
        log.line(SteppedDown(4)), log.line(Truncated(812)), log.line(HaltRequired("...")),
        log.line(MembersChanged(3, ("n1", "n2"))),
        log.line(LogRecovered()), log.line(Contradicted("a heartbeat that means: ...")),
        log.line(
            Contradicted("two sequencers lead epoch 4: another one is ...; this node stands for the next")
        ),
    ]  # fmt: skip
    assert log.line(GapOpened(1, 2)) is None and log.line(GapClosed(1, 2, 0.0649)) is None
    lines.append(log.gaps(0))
    shown = [name for cell in table("line", "meaning") for name in names(f"`{cell}`")]
    plain = [re.sub(r"\d[\d.]*", "N", line) for line in shown]
    for line in lines:
        assert line is not None
        assert re.sub(r"\d[\d.]*", "N", line) in plain, line
