"""Scenarios: a cluster, a workload, faults and what is expected of them, from one TOML file, on either backend.

    load_scenario(path)                   the file, checked
    run_scenario(scenario, "sim", seed)   in virtual time; or "processes": real nodes on this machine
    Report.document()                     the verdict as plain data

Nothing here prints.
"""

from mcast.scenario.format import load_scenario
from mcast.scenario.model import Scenario
from mcast.scenario.running import run_scenario
from mcast.scenario.verdict import Backend, Check, ScenarioReport

__all__ = ["Backend", "Check", "Scenario", "ScenarioReport", "load_scenario", "run_scenario"]
