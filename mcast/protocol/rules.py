"""The safety rules that can be switched off, one each, so that tests prove the simulator would notice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """Every rule on, as in production. Tests replace one by False: an ablation.

    Each names a rule of the agreement with a known counter-example; a cluster without it loses or doubles an event.
    """

    apply_only_committed: bool = True
    fencing: bool = True
    reconcile_before_ack: bool = True
    ack_chain_checked: bool = True
    log_matching: bool = True
    assigned_frames_only: bool = True
    commit_proven: bool = True
    commit_own_epoch_only: bool = True
    vote_log_rule: bool = True
    promise_durable: bool = True
    vote_durable: bool = True
    epoch_begins_with_vote: bool = True
    storage_id_checked: bool = True
    ticket_named: bool = True
    sync_before_ack: bool = True
    truncation_durable: bool = True
    bootstrap_by_all: bool = True
    founder_calls_first: bool = True
    fragments_cut_by_epoch: bool = True
    dedupe_contiguous: bool = True
    heartbeats_end_with_epoch: bool = True
    repair_floor: bool = True
    replace_in_two_steps: bool = True
    read_index_own_epoch: bool = True
    read_index_confirmed: bool = True
    staleness_proven: bool = True
    positions_of_newest_config: bool = True
    suspect_abstains: bool = True
    positions_of_same_processes: bool = True
    time_moves_on: bool = True
    watermark_before_ack: bool = True
    watermark_lowered_first: bool = True
    doubt_before_mending: bool = True
    deaf_are_sought: bool = True
    answers_named: bool = True
    receiver_checked: bool = True
    config_named_by_epoch: bool = True
    ack_of_own_epoch: bool = True
    vote_of_own_epoch: bool = True
    promise_ordered: bool = True
    epoch_jump_bounded: bool = True
    promise_held_against_log: bool = True
    meta_held_against_watermark: bool = True
    best_log_preferred: bool = True
    ack_of_begun_round: bool = True
    lone_word_doubted: bool = True
    lone_word_halts_nobody: bool = True
    doubt_when_told: bool = True
