"""Deterministic simulation: whole clusters in virtual time, all that can go wrong, and what must hold all the same.

    run(seed, without)           one random cluster and its faults, from one seed
    swarm(seeds, workers)        many of them, in processes
    catch(rule)                  switches one safety rule off and finds the run or scenario that notices
    play(SCENARIOS[rule], ...)   a directed scenario

The replica, the store, the engine and the datagrams are the real ones; network, disk and clocks are simulated.
"""

from mcast.sim.ablations import MEANINGS, Ablation, catch
from mcast.sim.directed import BOUNDS, SCENARIOS, play
from mcast.sim.guards import GUARDS
from mcast.sim.invariants import Violation
from mcast.sim.plan import Plan, draw_plan
from mcast.sim.runs import RunOutcome, rules_without, run, swarm
from mcast.sim.stage import Scene

__all__ = [
    "BOUNDS",
    "GUARDS",
    "MEANINGS",
    "SCENARIOS",
    "Ablation",
    "Plan",
    "RunOutcome",
    "Scene",
    "Violation",
    "catch",
    "draw_plan",
    "play",
    "rules_without",
    "run",
    "swarm",
]
