"""PROTOCOL.md is tested, not trusted: its vectors decode and encode back, its tables are the code's own."""

import dataclasses
import re
import tomllib
from pathlib import Path
from struct import Struct
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest

import mcast.wire
from mcast import limits
from mcast.seal import datagram as seal
from mcast.seal import incarnations
from mcast.seal.datagram import Opener, Sealer, datagram_key
from mcast.seal.keys import KeyRing
from mcast.wire import messages, stream
from mcast.wire.envelope import Envelope, address, encode_envelope, name_hash
from mcast.wire.frame import Frame, decode_frame_untrusted, follows, make_frame
from mcast.wire.groups import decode_groups_untrusted, decode_results_untrusted, encode_result, pack_run
from mcast.wire.messages import Kind, decode_message_untrusted, encode_message, type_of
from mcast.wire.records import CLIENT_KINDS, RecordKind, decode_records_untrusted, encode_record
from mcast.wire.splitter import Splitter

DOCUMENT = (Path(next(iter(mcast.wire.__path__))).parent / "docs" / "PROTOCOL.md").read_text()
VECTORS = [tomllib.loads(block) for block in re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.M | re.S)]
PARTS = (messages.EpochEntry, messages.PeerState, messages.Range)
PAYLOADS = (messages.Member, messages.Configuration, messages.Genesis, messages.EpochStart, messages.Recovery)


def vectors(about: str) -> list[Any]:
    found = [vector for vector in VECTORS if about in vector]
    return [pytest.param(vector, bytes.fromhex(vector["hex"]), id=f"{vector[about]}"[:20]) for vector in found]


def plain(value: Any) -> Any:
    """A decoded value as a vector writes it."""
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value) if isinstance(value, int) and value >= 2**63 else value


@pytest.mark.parametrize(("vector", "data"), vectors("message"))
def test_message_vectors(vector: dict[str, Any], data: bytes) -> None:
    message = decode_message_untrusted(Kind[vector["message"]], data)
    assert plain(message) == vector["fields"]
    assert encode_message(message) == data


@pytest.mark.parametrize(("vector", "data"), vectors("payload"))
def test_payload_vectors(vector: dict[str, Any], data: bytes) -> None:
    decode = {
        "Genesis": messages.decode_genesis_untrusted,
        "EpochStart": messages.decode_epoch_start_untrusted,
        "Recovery": messages.decode_recovery_untrusted,
    }
    value: Any = decode[vector["payload"]](data)
    assert plain(value) == vector["fields"]
    assert encode_message(value) == data


@pytest.mark.parametrize(("vector", "data"), vectors("groups"))
def test_group_vectors(vector: dict[str, Any], data: bytes) -> None:
    ((kind, payload),) = Splitter().feed(data)
    found = decode_groups_untrusted(payload, len(payload))
    assert kind == stream.StreamKind[vector["stream"]]
    assert [[kind, session, request, len(group)] for kind, session, request, group in found] == vector["groups"]
    assert b"".join(pack_run(stream.StreamKind(kind), [b"".join(one.group) for one in found])) == data


@pytest.mark.parametrize(("vector", "data"), vectors("results"))
def test_result_vectors(vector: dict[str, Any], data: bytes) -> None:
    ((kind, payload),) = Splitter().feed(data)
    found = decode_results_untrusted(payload)
    assert kind == stream.StreamKind[vector["stream"]] and plain(found) == vector["results"]
    assert b"".join(pack_run(stream.StreamKind(kind), [encode_result(*result) for result in found])) == data


@pytest.mark.parametrize(("vector", "data"), vectors("record"))
def test_record_vectors(vector: dict[str, Any], data: bytes) -> None:
    (record,) = decode_records_untrusted(data)
    assert {key: plain(value) for key, value in record._asdict().items() if key != "kind"} == vector["fields"]
    assert record.kind == RecordKind[vector["record"]]
    kind, count, session, number, lowest, payload = record
    assert encode_record(RecordKind(kind), count, session, number, lowest, bytes(payload)) == data


@pytest.mark.parametrize(("vector", "data"), vectors("frame"))
def test_frame_vectors_and_their_chain(vector: dict[str, Any], data: bytes) -> None:
    before = bytes.fromhex(vector["chain_before"])
    frame = decode_frame_untrusted(data)
    assert {key: plain(value) for key, value in frame._asdict().items() if key not in ("body", "head")} == vector[
        "frame"
    ]
    assert follows(frame, before)
    again = make_frame(frame.epoch, frame.first, frame.count, frame.commit, frame.time, before, frame.body)
    assert again == frame and again.head + again.body == data
    assert sum(record.count for record in decode_records_untrusted(frame.body)) == frame.count


@pytest.mark.parametrize(("vector", "data"), vectors("datagram"))
def test_datagram_vectors(vector: dict[str, Any], data: bytes) -> None:
    ring = KeyRing((bytes.fromhex(vector["secret"]),)) if "secret" in vector else None
    incarnation, sender = bytes.fromhex(vector["incarnation"]), name_hash(vector["sender"])
    senders = {sender, name_hash(vector.get("to", vector["sender"]))}
    envelope, content = Opener(ring, vector["cluster"], senders, 0).open_untrusted(data)
    to = name_hash(vector["to"]) if "to" in vector else None
    expected = Envelope(
        Kind[vector["datagram"]], vector["channel"], 1 if ring else 0, address(name_hash(vector["cluster"]), to),
        sender, incarnation, vector["counter"], vector["promised"],
    )  # fmt: skip
    assert envelope == expected
    assert data.startswith(encode_envelope(envelope))
    head, body = (content.head, content.body) if isinstance(content, Frame) else (b"", encode_message(content))
    sealer = Sealer(ring, vector["cluster"], vector["sender"], incarnation)
    assert sealer.seal(envelope.kind, envelope.channel, envelope.promised, head, body, to) == data


@pytest.mark.parametrize(("vector", "data"), vectors("derive"))
def test_key_vectors(vector: dict[str, Any], data: bytes) -> None:
    secret, incarnation = bytes.fromhex(vector["secret"]), bytes.fromhex(vector["incarnation"])
    assert datagram_key(secret, name_hash(vector["cluster"]), name_hash(vector["sender"]), incarnation) == data


@pytest.mark.parametrize(("vector", "data"), vectors("name"))
def test_name_vectors(vector: dict[str, Any], data: bytes) -> None:
    assert name_hash(vector["name"]).to_bytes(8, "big") == data


@pytest.mark.parametrize(("vector", "data"), [param for param in vectors("stream") if "fields" in param.values[0]])
def test_stream_vectors(vector: dict[str, Any], data: bytes) -> None:
    ((kind, payload),) = Splitter().feed(data)
    message = stream.decode_stream_untrusted(kind, payload)
    assert kind == stream.StreamKind[vector["stream"]]
    assert plain(list(message)) == vector["fields"]
    assert stream.pack_message(stream.StreamKind(kind), message) == data


def test_no_vector_is_left_out() -> None:
    known = ("message", "payload", "record", "frame", "datagram", "derive", "name", "stream")
    assert all(sum(about in vector for about in known) >= 1 for vector in VECTORS)
    assert [Kind[vector["message"]] for vector in VECTORS if "message" in vector] == list(type_of)
    assert {RecordKind[vector["record"]] for vector in VECTORS if "record" in vector} == CLIENT_KINDS
    sealed = {("secret" in vector, vector["datagram"]) for vector in VECTORS if "datagram" in vector}
    assert sealed == {(with_key, kind) for with_key in (True, False) for kind in ("DATA", "STALE")}


def section(heading: str) -> str:
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.M | re.S)
    assert found, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, headings and the lines under them left out."""
    tables = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in row] for row in tables if row[0].strip(" -") and row[1].strip() != "size"]


def size(hint: Any) -> str:
    if hint is str or hint is bytes:
        return "2 + n"
    if get_origin(hint) is not Annotated:
        return "-"
    kind, layout, *_ = get_args(hint)
    if isinstance(layout, Struct):
        return str(layout.size)
    sizes = [size(item) for item in get_type_hints(get_args(kind)[0], include_extras=True).values()]
    return "2 + n x " + (str(sum(map(int, sizes))) if all(item.isdigit() for item in sizes) else "item")


@pytest.mark.parametrize(
    ("heading", "message"),
    [(f"{Kind(kind).name} ({kind:d})", message) for kind, message in type_of.items()]
    + [(message.__name__, message) for message in PARTS + PAYLOADS],
)
def test_the_table_of_each_message_is_its_layout(heading: str, message: type) -> None:
    hints = get_type_hints(message, include_extras=True)
    expected = [[field.name, size(hints[field.name])] for field in dataclasses.fields(message)]
    assert [row[:2] for row in rows(section(heading).split("```")[0]) if row[0] != "field"] == expected


def test_the_tables_of_kinds_are_the_codes_own() -> None:
    kinds = [row for row in rows(section("Kinds")) if row[0] != "kind"]
    assert [(int(number), name) for number, name, *_ in kinds] == [(int(kind), kind.name) for kind in Kind]
    assert [row[3] for row in kinds] == [type_of[kind].__name__ if kind in type_of else "frame" for kind in Kind]
    listed = [(row[0], row[1]) for row in rows(section("Records")) if row[0].isdigit() and row[1].isupper()]
    assert listed == [(str(int(kind)), kind.name) for kind in RecordKind]


def test_the_table_of_tcp_messages_is_the_codes_own() -> None:
    listed = {row[1]: (int(row[0]), row[2]) for row in rows(section("6. TCP")) if row[0].isdigit() and row[1].isupper()}
    for kind in stream.StreamKind:
        message, _ = stream._CHECKS.get(kind, (None, ()))
        assert listed[kind.name][0] == kind
        if message is None:
            assert listed[kind.name][1].split(" ")[0] == "raw"
        else:
            assert listed[kind.name][1] == ", ".join(message._fields)
    assert len(listed) == len(stream.StreamKind)


def test_every_limit_is_quoted_as_it_is() -> None:
    quoted = rows(section("7. Limits and timings"))
    assert len(quoted) > 30
    for name, value, why in quoted:
        if name != "limit":
            assert str(getattr(limits, name)) == value, name
            assert why


def test_every_reason_of_a_refusal_is_listed() -> None:
    listed = re.search(r"each under its name:\n(.*?)\n\n", DOCUMENT, re.S)
    assert listed
    assert set(re.findall(r"`([^`]+)`", listed[1].replace("\n", " "))) == seal.REASONS | incarnations.REASONS
