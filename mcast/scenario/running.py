"""A scenario from file to verdict."""

from __future__ import annotations

import asyncio
import os
import shlex
import tempfile
from pathlib import Path

from mcast.scenario.format import machine_of
from mcast.scenario.local import run_local
from mcast.scenario.model import Scenario
from mcast.scenario.simulated import run_simulated
from mcast.scenario.verdict import Backend, ScenarioReport, judge
from mcast.scenario.workload import commands_of


def run_scenario(
    scenario: Scenario, backend: Backend = "sim", seed: int = 1, lines: list[str] | None = None
) -> ScenarioReport:
    """Run a scenario and judge it. On the simulator, `lines`, when given, is filled with a readable log.

    Raises:
        ConfigError: the machine or the workload's file cannot be used. EnvironmentProblem, NotYet, NotSent: local
            processes did not come up, or did not take a fault.
    """
    machine = machine_of(scenario)
    commands = commands_of(scenario, machine)
    if backend == "sim":
        run = run_simulated(scenario, commands, machine, seed, lines)
        path = shlex.quote(os.path.relpath(scenario.path))
        return judge(
            scenario, commands, machine, run, backend, seed, f"mcast scenario run {path} --backend sim --seed {seed}"
        )
    with tempfile.TemporaryDirectory(prefix="mcast-scenario-") as folder:
        run = asyncio.run(run_local(scenario, commands, seed, Path(folder)))
        return judge(scenario, commands, machine, run, backend, seed, None)
