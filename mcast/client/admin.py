"""Asking nodes about themselves, and telling single ones what an operator wants.

Status, gaps and the documents made of all their answers; a description, faults, a handover, each over a connection of
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from mcast.analysis import document_findings
from mcast.clock import monotonic_s, wall_offset_ns
from mcast.config import NodeConfig
from mcast.documents import (
    FaultDocument,
    GapsDocument,
    HandoverDocument,
    MachineDescription,
    NodeStatus,
    StatusDocument,
)
from mcast.errors import DecodeError, NotSent, Refused, Unknown
from mcast.net.tcp import Dialer, KeyMismatch, StreamLink, Unreachable, key_problem
from mcast.wire.stream import (
    Ask,
    Failure,
    Fault,
    HandoverRequest,
    Report,
    StreamKind,
    decode_stream_untrusted,
    pack_message,
)

NODE_FIELDS: Final = (
    "votes", "state", "epoch", "last_seq", "commit_seq", "applied_seq", "chain", "result_chain", "gaps_open",
    "naks_sent", "repairs_received", "repairs_sent", "lag_events", "queries",
)  # fmt: skip


class _Asker:
    """Owns a link for one question."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Report | Failure] = asyncio.get_running_loop().create_future()

    def on_link_message(self, link: StreamLink, kind: int, payload: bytes) -> None:
        """The answer arrived."""
        if kind not in (StreamKind.REPORT, StreamKind.ERROR):
            raise DecodeError("unexpected message", str(kind))
        message = decode_stream_untrusted(kind, payload)
        assert isinstance(message, Report | Failure)
        if not self.answer.done():
            self.answer.set_result(message)

    def on_link_writable(self, link: StreamLink) -> None:
        """Nothing waits to be written."""

    def on_link_lost(self, link: StreamLink, reason: str) -> None:
        """There will be no answer."""
        if not self.answer.done():
            self.answer.set_exception(Unreachable(f"{link.node.id} at {link.node.address}: {reason}"))
            self.answer.exception()  # marks it as seen: the asking task may have given up


async def ask_node(
    dialer: Dialer, node: NodeConfig, kind: StreamKind, message: Ask | Fault | HandoverRequest, timeout_s: float
) -> Report | Failure:
    """One node's Report or Failure, over a connection of its own.

    Raises:
        Unreachable: no answer within `timeout_s`. KeyMismatch: there was none, for the keys differ.
    """
    asker = _Asker()
    try:
        async with asyncio.timeout(timeout_s):
            link = await dialer.open(node, asker, timeout_s)
            try:
                link.write([pack_message(kind, message)])
                return await asker.answer
            finally:
                link.close()
    except TimeoutError:
        raise Unreachable(f"{node.id} at {node.address}: no answer within {timeout_s:g} s") from None


async def ask_all(dialer: Dialer, kind: StreamKind, timeout_s: float) -> list[dict[str, Any] | None]:
    """Every configured node's report in the config's order; None for one that did not answer. Raises as `ask_each`."""
    answers = await ask_each(dialer, kind, timeout_s)
    return [None if isinstance(answer, Unreachable) else answer for answer in answers]


async def ask_each(dialer: Dialer, kind: StreamKind, timeout_s: float) -> list[dict[str, Any] | Unreachable]:
    """Every configured node's report in the config's order, or why there is none.

    Raises:
        ConfigError: none answered, for their keys differ.
    """

    async def ask(node: NodeConfig) -> dict[str, Any] | Unreachable:
        asked_s = monotonic_s()
        try:
            answer = await ask_node(dialer, node, kind, Ask(1), timeout_s)
        except Unreachable as error:
            return error
        answered_s = monotonic_s()
        report = getattr(answer, "report", None)
        if isinstance(report, dict) and isinstance(report.get("node"), dict):
            _date(report["node"], asked_s, answered_s)
            return report
        return Unreachable(f"{node.id} at {node.address}: {getattr(answer, 'text', 'it answered by no report')}")

    answers = await asyncio.gather(*[ask(node) for node in dialer.config.nodes])
    silences = [answer for answer in answers if isinstance(answer, Unreachable)]
    mismatches = [silence for silence in silences if isinstance(silence, KeyMismatch)]
    if mismatches and len(silences) == len(answers):
        raise key_problem(dialer.config, str(mismatches[0]))
    return answers


def _date(row: dict[str, Any], asked_s: float, answered_s: float) -> None:
    """How far the clock of a node that was asked then and answered then is ahead of this one's."""
    wall_ns = row.get("wall_ns")
    if isinstance(wall_ns, int):
        here_s = (asked_s + answered_s) / 2 + wall_offset_ns() / 1e9
        row["clock_off_s"] = round(wall_ns / 1e9 - here_s, 3)
        row["clock_unsure_s"] = round((answered_s - asked_s) / 2, 3)


def silences_of(nodes: Sequence[NodeConfig], answers: Sequence[dict[str, Any] | Unreachable]) -> dict[str, str]:
    """Node id -> why it gave no report, from what `ask_each` returned."""
    return {
        node.id: str(answer).removeprefix(f"{node.id} at {node.address}: ")
        for node, answer in zip(nodes, answers, strict=True)
        if isinstance(answer, Unreachable)
    }


def status_document(
    name: str,
    nodes: Sequence[NodeConfig],
    reports: Sequence[dict[str, Any] | None],
    silences: Mapping[str, str] = MappingProxyType({}),
) -> StatusDocument:
    """The contract's status: what each node says of itself, and what of all that is amiss.

    Null fields for those that did not answer; `silences` says by node id why, where that is known.
    """
    newest = max((report for report in reports if report is not None), key=_epoch, default=None)
    rows = [_node_status(node, report) for node, report in zip(nodes, reports, strict=True)]
    _tell_lags(rows)
    document: StatusDocument = {
        "cluster": name,
        "epoch": None if newest is None else newest.get("epoch"),
        "sequencer": None if newest is None else _sequencer(newest, nodes, reports),
        "nodes": rows,
        "findings": [],
    }
    document["findings"] = document_findings(document, silences)
    return document


def gaps_document(nodes: Sequence[NodeConfig], reports: Sequence[dict[str, Any] | None]) -> GapsDocument:
    """The contract's gaps: the ledger of each node that answered; only an id for the others."""
    rows: list[Any] = [
        {**(report["node"] if report else {}), "id": node.id} for node, report in zip(nodes, reports, strict=True)
    ]
    return {"nodes": rows}


def _node_status(node: NodeConfig, report: dict[str, Any] | None) -> NodeStatus:
    said: Any = {} if report is None else report["node"]
    own = {"id": node.id, "role": node.role}
    found = {"reachable": report is not None, "address": node.address}
    return cast("NodeStatus", {**own, **dict.fromkeys(NODE_FIELDS), **said, **own, **found})


def _tell_lags(rows: Sequence[NodeStatus]) -> None:
    """Count each node's lag against the newest commit that any of them knows: a deaf one knows of none."""
    newest = max([row["commit_seq"] for row in rows if isinstance(row["commit_seq"], int)], default=0)
    for row in rows:
        if isinstance(row["applied_seq"], int) and isinstance(row["lag_events"], int):
            row["lag_events"] = max(row["lag_events"], newest - row["applied_seq"])


def _sequencer(
    newest: dict[str, Any], nodes: Sequence[NodeConfig], reports: Sequence[dict[str, Any] | None]
) -> str | None:
    """The sequencer that the newest report names, unless that node's own report denies it."""
    named: str | None = newest.get("sequencer")
    own = next((report for node, report in zip(nodes, reports, strict=True) if node.id == named), None)
    return named if own is None or own.get("sequencer") == named else None


def _epoch(report: dict[str, Any]) -> tuple[int, bool]:
    """Newest epoch first; among equals, one that knows who leads."""
    epoch = report.get("epoch")
    return epoch if isinstance(epoch, int) else -1, report.get("sequencer") is not None


async def describe_any(dialer: Dialer, nodes: Sequence[NodeConfig], timeout_s: float) -> MachineDescription:
    """The machine of the first of `nodes` that answers within `timeout_s`. Raises as `Client.describe`."""
    silences = []
    for node in nodes:
        try:
            answer = await ask_node(dialer, node, StreamKind.DESCRIBE, Ask(1), timeout_s)
        except KeyMismatch as error:
            raise key_problem(dialer.config, str(error)) from None
        except Unreachable as error:
            silences.append(str(error))
            continue
        if isinstance(answer, Failure):
            raise Refused(answer.text)
        try:
            return msgspec.convert(answer.report["node"], MachineDescription)
        except (msgspec.ValidationError, KeyError) as error:
            raise DecodeError("bad description", str(error)) from None
    raise NotSent(f"no node answered; asked {'; '.join(silences)}")


async def inject(dialer: Dialer, node_id: str, spec: str, timeout_s: float) -> FaultDocument:
    """Have a node inject these faults. Raises as `Client.fault`."""
    target = dialer.config.node(node_id)
    try:
        answer = await ask_node(dialer, target, StreamKind.FAULT, Fault(1, spec), timeout_s)
    except KeyMismatch as error:
        raise key_problem(dialer.config, str(error)) from None
    except Unreachable as error:
        raise NotSent(f"no answer; asked {error}") from None
    if isinstance(answer, Failure):
        raise Refused(answer.text)
    return cast("FaultDocument", answer.report)


async def hand_over(dialer: Dialer, status: StatusDocument, to: str, timeout_s: float) -> HandoverDocument:
    """Have the sequencer that `status` names give its role to node `to`. Raises as `Client.handover`."""
    config = dialer.config
    if not any(node["reachable"] for node in status["nodes"]):
        asked = ", ".join(f"{node.id} at {node.address}" for node in config.nodes)
        raise NotSent(f"no node answered; asked {asked}; run mcast up or mcast node")
    if status["sequencer"] is None:
        raise Refused("nobody is known to sequence just now: nothing can be handed over")
    sequencer = config.node(status["sequencer"])
    try:
        answer = await ask_node(dialer, sequencer, StreamKind.HANDOVER, HandoverRequest(1, to), timeout_s)
    except Unreachable as error:
        raise Unknown(f"whether {to} took over is not known: {error}; see mcast status") from None
    if isinstance(answer, Failure):
        raise Refused(f"{sequencer.id} keeps its role: {answer.text}")
    report = answer.report
    return {"from": sequencer.id, "to": to, "epoch": report["epoch"], "ms": report["node"]["ms"]}
