"""What an operator asks of single nodes: a description, faults, a handover; each over a connection of its own."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcast.client.reports import ask_node
from mcast.config import NodeConfig
from mcast.documents import FaultDocument, HandoverDocument, MachineDescription, StatusDocument
from mcast.errors import DecodeError, NotSent, Refused, Unknown
from mcast.net.tcp import Dialer, KeyMismatch, Unreachable, key_problem
from mcast.wire.stream import Ask, Failure, Fault, HandoverRequest, StreamKind


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
    report: FaultDocument = answer.report
    return report


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
