"""Ablations: each safety rule switched off once, to show that the simulator would notice its loss.

Rules that random runs hit often are caught by the first seed that breaks; the rare ones by their directed scenario,
which must also end whole with every rule on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from mcast.protocol.rules import Rules
from mcast.sim.directed import SCENARIOS, play
from mcast.sim.runs import rules_without, run

SEEDS_MAX: Final = 500

MEANINGS: Final[dict[str, str]] = {
    "apply_only_committed": "only committed events are applied",
    "fencing": "a datagram below the promised epoch is refused",
    "reconcile_before_ack": "nothing is acknowledged before the log agrees with the epoch's history",
    "ack_chain_checked": "an acknowledgement counts only if its chain is the sequencer's own",
    "log_matching": "a frame joins the log only if its chain follows",
    "assigned_frames_only": "a frame joins the log only if the history assigns it to its epoch",
    "commit_proven": "a commit is adopted only where the own chain is proven equal",
    "commit_own_epoch_only": "only an event of the own epoch commits by counting",
    "vote_log_rule": "a vote goes only to a log at least as up to date",
    "promise_durable": "an epoch is promised durably before it is obeyed",
    "vote_durable": "a vote is durable before it is sent",
    "epoch_begins_with_vote": "a restarted sequencer never continues its epoch",
    "storage_id_checked": "a vote or acknowledgement counts only under a member's storage id",
    "ticket_named": "a completion from before a truncation proves nothing",
    "sync_before_ack": "an event is acknowledged only once it is synced",
    "truncation_durable": "a truncation is durable before anything is appended",
    "bootstrap_by_all": "a cluster is founded only by all its members",
    "founder_calls_first": "nobody stands with GENESIS alone before the founder has called a vote",
    "fragments_cut_by_epoch": "a new epoch discards a partial command",
    "dedupe_contiguous": "a session's requests take effect without holes",
    "heartbeats_end_with_epoch": "a sequencer that steps down stops its heartbeats",
    "repair_floor": "the repair budget never falls below a floor",
    "replace_in_two_steps": "a member's lost disk is removed, and its new one added only once that has committed",
    "read_index_own_epoch": "a sequencer names no read index before an event of its own epoch has committed",
    "read_index_confirmed": "a read index counts only once a majority has answered a round begun since it was asked",
    "staleness_proven": "a state's age is proven by a confirmed round, never by a heartbeat alone",
    "positions_of_newest_config": "a question counts a majority of the newest configuration that anybody knows",
    "suspect_abstains": "a log that may lack what it acknowledged neither votes nor acknowledges",
    "watermark_before_ack": "the watermark is beyond an event before that is acknowledged",
    "watermark_lowered_first": "a truncation lowers the watermark first",
    "doubt_before_mending": "the doubt about a log is durable before the log is mended",
    "deaf_are_sought": "whom multicast does not reach is sent heartbeats by unicast, then over TCP",
    "time_moves_on": "the log's time never goes back, and moves on, whatever clocks show",
    "positions_of_same_processes": "a suspect's question counts only answers of processes that ran before it began",
    "answers_named": "an answer counts only for whom and for what it names",
    "receiver_checked": "a unicast datagram counts only at the node it names",
    "config_named_by_epoch": "a configuration is named by its epoch and its number, never by the number alone",
    "ack_of_own_epoch": "a sequencer counts no acknowledgement of another epoch",
    "vote_of_own_epoch": "a candidate counts no vote of another epoch",
    "promise_ordered": "what was said under one promise does not leave under the next",
    "epoch_jump_bounded": "the words of others raise a promise by a bounded step at a time",
    "doubt_when_told": "who was heard to acknowledge what its log does not hold is a suspect, durably",
    "best_log_preferred": "a voter that has just started prefers the best log of those who answer",
    "meta_held_against_watermark": "a meta older than the watermark knows it is a lost promise, or vote",
    "ack_of_begun_round": "an acknowledgement counts only for rounds that were begun",
    "lone_word_doubted": "what a sequencer does not repeat of its numbers, and of its history, is taken back",
    "lone_word_halts_nobody": "a word that would end a node is obeyed only when it is repeated",
    "promise_held_against_log": "a promise below the log's epochs is a lost one: its node is another one from then on",
}
"""What each rule of `Rules` says."""

assert set(MEANINGS) == set(Rules.__dataclass_fields__), "every rule has a meaning, and an ablation"


@dataclass(frozen=True, slots=True)
class Ablation:
    """How the loss of one rule showed."""

    rule: str
    meaning: str
    caught_by: str | None
    """"seed N" or the scenario's name; None when nothing noticed."""
    seeds: int | None
    """How many random runs it took, the one that caught it included; None for a directed scenario."""
    violation: str
    command: str
    """Replays it."""
    cpu_s: float


def catch(rule: str, seeds_max: int = SEEDS_MAX) -> Ablation:
    """Switch `rule` off and look until something notices. Raises ValueError on a name that is no rule's."""
    started = time.process_time()
    rules = rules_without([rule])
    scenario = SCENARIOS.get(rule)
    caught_by: str | None = None
    seeds: int | None = None
    violation = ""
    command = f"mcast sim --without {rule}"
    if scenario is not None:
        name = scenario.play.__name__
        spoiled = play(scenario, Rules())
        found = play(scenario, rules)
        if spoiled is not None:
            violation = f"the scenario fails with every rule on: {spoiled}"
        elif found is not None:
            caught_by, violation = name, found
        command += f" --scenario {name} --trace"
    else:
        for seed in range(seeds_max):
            seeds = seed + 1
            outcome = run(seed, [rule])
            if outcome.violation is not None and run(seed).violation is None:
                caught_by, violation, command = f"seed {seed}", outcome.violation, outcome.command
                break
    return Ablation(rule, MEANINGS[rule], caught_by, seeds, violation, command, time.process_time() - started)
