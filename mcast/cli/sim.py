"""`mcast sim`: run the protocol in simulated clusters, and show what they find."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcast.cli import options, output
from mcast.cli.exits import ExitCode

if TYPE_CHECKING:
    from mcast.sim import RunOutcome

SEEDS = 200
SEEDS_MAX = 10_000_000


def sim(  # noqa: PLR0913 - one parameter a flag
    context: typer.Context,
    seeds: Annotated[
        int, typer.Option("--seeds", help="How many random runs.", min=1, max=SEEDS_MAX, metavar="N")
    ] = SEEDS,
    first: Annotated[int, typer.Option("--from", help="The first seed of them.", min=0, metavar="SEED")] = 0,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Only the run of this seed.", min=0, metavar="SEED")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", help="Switch a safety rule off.", metavar="RULE")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", help="Only this directed scenario.", metavar="NAME")
    ] = None,
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Switch every rule off in turn, and show what notices.")
    ] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Print every step of one run.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes; one for each CPU if not given.", min=1, metavar="N")
    ] = None,
    json: options.Json = False,
) -> None:
    """Simulate whole clusters: real replicas, journals and machines; network, disks and clocks made up from a seed.

    Anything may go wrong: loss up to 30 %, partitions, crashes, lost disks, power cuts. What the fabric promises must
    hold at every step; a healed majority must make progress, and a healed cluster become whole. A seed gives the same
    run everywhere.

    Examples: `mcast sim --seeds 2000` · `mcast sim --seed 7 --trace` · `mcast sim --ablations`
    """
    if ablations:
        options.refuse_unused(
            context,
            "beside --ablations",
            "--seeds",
            "--from",
            "--seed",
            "--without",
            "--scenario",
            "--trace",
            "--workers",
        )
    elif scenario is not None:
        options.refuse_unused(context, "beside --scenario", "--seeds", "--from", "--seed", "--workers")
    elif seed is not None:
        options.refuse_unused(context, "beside --seed", "--seeds", "--from", "--workers")
    rules = tuple(without or ())
    _check_rules(rules)
    if ablations:
        found = _ablations(json)
    elif scenario is not None:
        found = _scenario(scenario, rules, trace, json)
    elif seed is not None:
        found = _one(seed, rules, trace, json)
    elif trace:
        raise typer.BadParameter("--trace shows one run: name it by --seed or --scenario")
    else:
        found = _swarm(range(first, first + seeds), rules, workers or os.cpu_count() or 1, json)
    if found:
        raise typer.Exit(ExitCode.FINDING)


def _check_rules(rules: tuple[str, ...]) -> None:
    from mcast.sim import rules_without

    try:
        rules_without(rules)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--without") from None


def _swarm(seeds: range, rules: tuple[str, ...], workers: int, json: bool) -> bool:
    """Run them all, up to the first violation; whether there was one."""
    from mcast.sim import swarm

    began = time.monotonic()
    done: list[RunOutcome] = []
    with output.counting("simulated", "clusters") as count:
        outcomes = swarm(seeds, workers, rules)
        for outcome in outcomes:
            done.append(outcome)
            count(len(done))
            if outcome.violation is not None:
                break
        outcomes.close()
    broken = done[-1] if done[-1].violation is not None else None
    totals: dict[str, Any] = {
        "seeds": len(done),
        "first_seed": seeds.start,
        "without": list(rules),
        "events": sum(outcome.events for outcome in done),
        "datagrams": sum(outcome.datagrams for outcome in done),
        "lost": sum(outcome.dropped for outcome in done),
        "faults": sum(outcome.faults for outcome in done),
        "virtual_s": round(sum(outcome.virtual_s for outcome in done), 1),
        "seconds": round(time.monotonic() - began, 1),
        "violation": None if broken is None else _violation(broken),
    }
    if json:
        output.print_json(totals)
    else:
        columns = ("seeds", "events", "datagrams", "lost", "faults", "virtual_s", "seconds")
        output.print_table("", columns, [[totals[column] for column in columns]])
        output.print_line("no violation" if broken is None else _describe(broken))
    return broken is not None


def _one(seed: int, rules: tuple[str, ...], trace: bool, json: bool) -> bool:
    from mcast.sim import run

    lines: list[str] | None = [] if trace else None
    outcome = run(seed, rules, lines)
    if json:
        output.print_json({**asdict(outcome), "command": outcome.command, "lines": lines})
        return outcome.violation is not None
    for line in lines or ():
        output.print_line(line)
    if outcome.violation is not None:
        output.print_line(_describe(outcome))
    else:
        output.print_line(f"seed {seed}: no violation in {outcome.events} events and {outcome.faults} faults")
        output.print_line(f"trace {outcome.trace} of {outcome.steps} steps")
    return outcome.violation is not None


def _scenario(name: str, rules: tuple[str, ...], trace: bool, json: bool) -> bool:
    from mcast.sim import BOUNDS, GUARDS, SCENARIOS, play, rules_without

    scenarios = (*SCENARIOS.values(), *BOUNDS.values(), *GUARDS.values())
    known = {scenario.play.__name__: scenario for scenario in scenarios}
    if name not in known:
        raise typer.BadParameter(f"unknown scenario {name!r}; there are {', '.join(known)}", param_hint="--scenario")
    lines: list[str] | None = [] if trace else None
    violation = play(known[name], rules_without(rules), lines)
    if json:
        output.print_json({"scenario": name, "without": list(rules), "violation": violation, "lines": lines})
        return violation is not None
    for line in lines or ():
        output.print_line(line)
    output.print_line(f"{name}: {violation or 'no violation'}")
    return violation is not None


def _ablations(json: bool) -> bool:
    """One line a rule; whether some rule's loss went unnoticed."""
    from mcast.sim import MEANINGS, catch

    caught = []
    with output.counting("switched off", "rules") as count:
        for rule in MEANINGS:
            caught.append(catch(rule))
            count(len(caught))
    if json:
        output.print_json([asdict(ablation) for ablation in caught])
    else:
        rows = [
            [ablation.rule, ablation.caught_by or "NOT CAUGHT", ablation.seeds, ablation.cpu_s, ablation.violation]
            for ablation in caught
        ]
        output.print_table("", ("without", "caught by", "seeds", "CPU s", "how it showed"), rows)
    return any(ablation.caught_by is None for ablation in caught)


def _violation(outcome: RunOutcome) -> dict[str, Any]:
    return {"seed": outcome.seed, "violation": outcome.violation, "command": outcome.command}


def _describe(outcome: RunOutcome) -> str:
    return f"seed {outcome.seed}: {outcome.violation}\nreplay: {outcome.command}"
