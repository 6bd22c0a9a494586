"""Reading a scenario file: anything that cannot run, or cannot be met, is one error naming field, value and fix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec

from mcast import limits
from mcast.client.packing import check_name
from mcast.config.model import DEFAULT_MACHINE, Profile, Sync
from mcast.config.toml import PLAIN_NAME, convert_untrusted, parse_toml_untrusted, short
from mcast.errors import ConfigError, Refused
from mcast.machine.api import StateMachine
from mcast.machine.loading import load_machine
from mcast.scenario.model import (
    ALL,
    FOLLOWERS,
    GROUPS,
    SEQUENCER,
    SHARES,
    ClusterPlan,
    Expectations,
    FaultKind,
    FaultPlan,
    Scenario,
    Workload,
)
from mcast.scenario.template import Template, parse_command


class _ScenarioCluster(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    nodes: int = 3
    observers: int = 0
    machine: str = DEFAULT_MACHINE
    sync: Sync = "os"
    profile: Profile = "default"
    mtu: int = 1500
    sealed: bool = False


class _WorkloadTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    rate: float
    seconds: float
    clients: int = 1
    commands: list[list[Any]] = []
    file: str | None = None


class _FaultTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    at: float
    for_s: float | None = msgspec.field(name="for", default=None)
    node: str | list[str]
    kind: FaultKind
    percent: float | None = None
    ms: float | None = None


class _ExpectTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    outage_ms_max: float | None = None
    repair_p99_ms_max: float | None = None
    recovered_within_s: float | None = None


class _ScenarioFile(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    cluster: _ScenarioCluster = msgspec.field(default_factory=_ScenarioCluster)
    workload: _WorkloadTable
    fault: list[_FaultTable] = []
    expect: _ExpectTable = msgspec.field(default_factory=_ExpectTable)


_KINDS: Final[tuple[str, ...]] = get_args(FaultKind)
_NODES_MAX: Final = limits.SCENARIO_NODES_MAX
_FIXES: Final = {
    "name": 'give the scenario a name, such as "burst-loss"',
    "cluster": "leave it out, or write a [cluster] table",
    "cluster.nodes": f"give a whole number from 1 to {limits.MEMBERS_MAX}",
    "cluster.observers": f"give a whole number from 0; at most {_NODES_MAX} nodes in all",
    "cluster.machine": f'give "module:Class", such as "{DEFAULT_MACHINE}"',
    "cluster.sync": 'use "always" (survives power loss) or "os" (survives kill -9)',
    "cluster.profile": 'use "default" or "fast"',
    "cluster.mtu": f"give whole bytes from {limits.MTU_MIN} to {limits.MTU_MAX}",
    "cluster.sealed": "use true or false",
    "workload": "write a [workload] table with rate, seconds and commands",
    "workload.rate": "give commands a second, above 0",
    "workload.seconds": "give a duration above 0",
    "workload.clients": f"give a whole number from 1 to {limits.SCENARIO_CLIENTS_MAX}",
    "workload.commands": 'give a list of commands, such as [["incr", "k{n%100}", 1]]',
    "workload.file": "give the path of a file of commands, one JSON list a line",
    "fault": "write a [[fault]] table for each",
    "fault.at": "give seconds from the workload's begin, 0 or more",
    "fault.for": "give seconds above 0, or leave it out: until the end",
    "fault.node": f"name a node or a list of nodes, or one of {', '.join(GROUPS)}",
    "fault.kind": f"use one of {', '.join(_KINDS)}",
    "fault.percent": "give the share of datagrams, above 0 and at most 100",
    "fault.ms": f"give milliseconds above 0, at most {limits.SCENARIO_DELAY_MS_MAX:g}",
    "expect": "write an [expect] table, or leave it out",
    "expect.outage_ms_max": "give milliseconds above 0, or leave it out",
    "expect.repair_p99_ms_max": "give milliseconds above 0, or leave it out",
    "expect.recovered_within_s": f"give seconds above 0, at most {limits.SCENARIO_RECOVERY_S_MAX:g}, or leave it out",
}


def load_scenario(path: Path | str) -> Scenario:
    """Read and check a scenario file, and the commands against the machine it names.

    Raises:
        ConfigError: unreadable, not TOML, an unknown key, kind or node, a value out of bounds, a command the machine
            does not have, or an expectation that cannot be met.
    """
    file = Path(path)
    document = _read(file)
    try:
        return _checked(document, file.resolve())
    except ConfigError as error:
        raise error.with_file(file) from error.__cause__


def _checked(document: dict[str, Any], file: Path) -> Scenario:
    tables = convert_untrusted(document, _ScenarioFile, _FIXES)
    scenario = Scenario(
        name=_name(tables.name),
        path=file,
        cluster=_cluster(tables.cluster),
        workload=_workload(tables.workload, file.parent),
        faults=_faults(tables),
        expect=_expectations(tables.expect),
    )
    _check_shares(scenario)
    _check_possible(scenario)
    _check_commands(scenario, tables.workload.commands, machine_of(scenario))
    return scenario


def machine_of(scenario: Scenario) -> type[StateMachine]:
    """The class of the scenario's machine, looked for beside the file first. Raises ConfigError."""
    return load_machine(scenario.cluster.machine, str(scenario.path.parent))


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            data = stream.read(limits.CONFIG_BYTES_MAX + 1)
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
        raise ConfigError("scenario", str(file), problem, "name a scenario file") from error
    return parse_toml_untrusted(data, "scenario", file, "name a scenario file")


def _require(holds: bool, field: str, value: object, problem: str, schema: str | None = None) -> None:
    if not holds:
        raise ConfigError(field, short(value), problem, _FIXES[schema or field])


def _name(name: str) -> str:
    fits = bool(PLAIN_NAME.fullmatch(name)) and len(name) <= limits.NAME_BYTES_MAX
    _require(fits, "name", name, "not a plain name")
    return name


def _cluster(table: _ScenarioCluster) -> ClusterPlan:
    _require(1 <= table.nodes <= limits.MEMBERS_MAX, "cluster.nodes", table.nodes, "out of range")
    fits = 0 <= table.observers and table.nodes + table.observers <= _NODES_MAX
    _require(fits, "cluster.observers", table.observers, "out of range")
    _require(limits.MTU_MIN <= table.mtu <= limits.MTU_MAX, "cluster.mtu", table.mtu, "out of range")
    return ClusterPlan(**{name: getattr(table, name) for name in _ScenarioCluster.__struct_fields__})


def _workload(table: _WorkloadTable, folder: Path) -> Workload:
    _require(_positive(table.rate), "workload.rate", table.rate, "not a rate")
    _require(_positive(table.seconds), "workload.seconds", table.seconds, "not a duration")
    most = limits.SCENARIO_COMMANDS_MAX
    fits = 1 <= table.rate * table.seconds <= most
    _require(fits, "workload.rate", table.rate, f"rate x seconds is not 1 to {most:,} commands")
    clients = limits.SCENARIO_CLIENTS_MAX
    _require(1 <= table.clients <= clients, "workload.clients", table.clients, "out of range")
    if table.file is None:
        _require(bool(table.commands), "workload.commands", None, "missing")
    elif table.commands:
        raise ConfigError("workload.file", table.file, "given beside commands", "keep one of the two")
    return Workload(
        rate=table.rate,
        seconds=table.seconds,
        clients=table.clients,
        commands=tuple(_template(command, index) for index, command in enumerate(table.commands)),
        file=None if table.file is None else _command_file(folder, table.file),
    )


def _template(command: list[Any], index: int) -> Template:
    field = f"workload.commands[#{index + 1}]"
    fits = bool(command) and isinstance(command[0], str)
    _require(fits, field, command, "not a list that begins with a name", "workload.commands")
    try:
        return parse_command(command)
    except ValueError as error:
        raise ConfigError(field, short(command[0]), str(error), _FIXES["workload.commands"]) from None


def _command_file(folder: Path, name: str) -> Path:
    file = folder / Path(name)
    _require(bool(name) and "\0" not in name and file.is_file(), "workload.file", name, "no such file")
    return file


def _faults(tables: _ScenarioFile) -> tuple[FaultPlan, ...]:
    ids = _cluster(tables.cluster).ids
    return tuple(_fault(table, f"fault[#{index + 1}]", ids) for index, table in enumerate(tables.fault))


def _fault(table: _FaultTable, field: str, ids: tuple[str, ...]) -> FaultPlan:
    latest = limits.SCENARIO_SECONDS_MAX
    _require(0 <= table.at <= latest, f"{field}.at", table.at, "out of range", "fault.at")
    fits = table.for_s is None or (_positive(table.for_s) and table.for_s <= latest)
    _require(fits, f"{field}.for", table.for_s, "not a duration", "fault.for")
    has_percent, has_delay = table.kind in SHARES, table.kind == "delay"
    for key, value, wanted in (("percent", table.percent, has_percent), ("ms", table.ms, has_delay)):
        if wanted:
            _require(value is not None, f"{field}.{key}", None, "missing", f"fault.{key}")
        elif value is not None:
            raise ConfigError(f"{field}.{key}", value, f"means nothing to kind {table.kind!r}", "remove it")
    percent, delay_ms = table.percent or 0.0, table.ms or 0.0
    _require(not has_percent or 0 < percent <= 100, f"{field}.percent", percent, "no such share", "fault.percent")
    slow = 0 < delay_ms <= limits.SCENARIO_DELAY_MS_MAX
    _require(not has_delay or slow, f"{field}.ms", delay_ms, "no such delay", "fault.ms")
    return FaultPlan(
        at=table.at,
        for_s=table.for_s,
        nodes=_nodes(table, field, ids),
        kind=table.kind,
        percent=percent,
        delay_ms=delay_ms,
    )


def _nodes(table: _FaultTable, field: str, ids: tuple[str, ...]) -> tuple[str, ...]:
    field = f"{field}.node"
    nodes = (table.node,) if isinstance(table.node, str) else tuple(table.node)
    known = (*ids, *GROUPS) if isinstance(table.node, str) else ids
    _require(bool(nodes), field, table.node, "names no node", "fault.node")
    for node in nodes:
        if node not in known:
            raise ConfigError(field, short(node), "no such node", f"use one of: {', '.join(known)}")
    if len(set(nodes)) < len(nodes):
        raise ConfigError(field, ", ".join(nodes), "names a node twice", "name each once")
    if table.kind == "partition" and (nodes == (ALL,) or set(nodes) >= set(ids)):
        raise ConfigError(field, ", ".join(nodes), "leaves nobody to be cut off from", "name some of the nodes")
    return nodes


def _expectations(table: _ExpectTable) -> Expectations:
    bounds = {name: getattr(table, name) for name in _ExpectTable.__struct_fields__}
    for name, value in bounds.items():
        _require(value is None or _positive(value), f"expect.{name}", value, "no bound")
    patience = limits.SCENARIO_RECOVERY_S_MAX
    fits = table.recovered_within_s is None or table.recovered_within_s <= patience
    _require(fits, "expect.recovered_within_s", table.recovered_within_s, "out of range")
    return Expectations(**bounds)


def _positive(value: float) -> bool:
    return 0 < value <= limits.SCENARIO_SECONDS_MAX * 1_000 and math.isfinite(value)


def _check_shares(scenario: Scenario) -> None:
    """At any time the faults on a node's datagrams must not add up to more than all of them."""
    faults = [fault for fault in scenario.faults if fault.kind in SHARES]
    for fault in faults:
        together = [other for other in faults if _is_on(other, fault.at) and _may_meet(fault.nodes, other.nodes)]
        total = sum(other.percent for other in together)
        if total > 100:
            index = scenario.faults.index(fault) + 1
            problem = f"with the other faults then, {total:g} % of a node's datagrams"
            raise ConfigError(f"fault[#{index}].percent", fault.percent, problem, "stay within 100 in all")


def _is_on(fault: FaultPlan, at: float) -> bool:
    return fault.at <= at and (fault.for_s is None or at < fault.at + fault.for_s)


def _may_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    if {one[0], other[0]} == {SEQUENCER, FOLLOWERS}:
        return False
    return bool(set(one) & set(other)) or one[0] in GROUPS or other[0] in GROUPS


def _check_possible(scenario: Scenario) -> None:
    """Expectations that no run can meet."""
    members = scenario.cluster.members
    for_good = [fault.nodes for fault in scenario.faults if fault.kind == "kill" and fault.for_s is None]
    named = {node for nodes in for_good for node in nodes if node in members}
    dead = max(len(named), for_good.count((SEQUENCER,)), (len(members) - 1) * ((FOLLOWERS,) in for_good))
    living = 0 if (ALL,) in for_good else len(members) - dead
    if living <= len(members) // 2:
        field, bound = "expect.recovered_within_s", scenario.expect.recovered_within_s
        fix = "give the kills a `for`, after which the node is started again"
        raise ConfigError(field, bound, "no majority is left alive at the end", fix)
    silence_s = scenario.cluster.election_timeout_s[0]
    bound_ms = scenario.expect.outage_ms_max
    deposes = any(
        fault.kind == "kill" and fault.nodes == (SEQUENCER,) and (fault.for_s is None or fault.for_s > silence_s)
        and fault.at < scenario.workload.seconds
        for fault in scenario.faults
    )  # fmt: skip
    if bound_ms is not None and deposes and bound_ms < silence_s * 1e3:
        problem = f"a killed sequencer is missed only after {silence_s * 1e3:g} ms of silence"
        raise ConfigError("expect.outage_ms_max", bound_ms, problem, 'allow more, or set profile = "fast" in [cluster]')


def _check_commands(scenario: Scenario, commands: Sequence[list[Any]], machine: type[StateMachine]) -> None:
    """The machine must know each template's command, with that many arguments, for the first and the last number."""
    last = scenario.workload.count - 1
    for index, (template, command) in enumerate(zip(scenario.workload.commands, commands, strict=True)):
        for name, *arguments in (template(0), template(last)):
            try:
                check_name("command", name, len(arguments), machine.commands())
                msgspec.msgpack.encode(arguments)
            except (Refused, TypeError, OverflowError) as error:
                field, fix = f"workload.commands[#{index + 1}]", _FIXES["workload.commands"]
                raise ConfigError(field, short(command[0]), str(error), fix) from None
