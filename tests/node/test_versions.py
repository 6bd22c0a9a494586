"""A node of another wire version is named, for as long as it is heard."""

import pytest

from mcast.node.versions import LOGGED_EVERY_S, OtherVersions
from mcast.seal.datagram import Sealer
from mcast.wire.envelope import CONTROL, name_hash
from mcast.wire.messages import Kind


def spoken(version: int, node: str = "n2") -> bytes:
    """What such a node multicasts; its first 24 bytes are all that counts."""
    datagram = bytearray(Sealer(None, "lab", node, bytes(16)).seal(Kind.COMMIT, CONTROL, 1, b"", b""))
    datagram[2] = version
    return bytes(datagram)


def test_it_is_named_while_it_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    versions = OtherVersions("n1", {name_hash("n2"): "n2"})
    assert versions.findings(0.0) == []
    for now in range(5):
        versions.note_datagram(spoken(1), float(now))
    (finding,) = versions.findings(4.0)
    assert finding.startswith("n2 sends datagrams of wire version 1") and "an older mcast" in finding
    assert len(caplog.messages) == 1 and finding in caplog.messages[0]
    assert versions.findings(4.0 + LOGGED_EVERY_S) == []


def test_strangers_of_any_name_are_one(caplog: pytest.LogCaptureFixture) -> None:
    versions = OtherVersions("n1", {name_hash("n2"): "n2"})
    for name in ("n8", "n9", "n2"):
        versions.note_datagram(spoken(7, name), 0.0)
    assert [finding.split(" sends")[0] for finding in versions.findings(1.0)] == ["a node", "n2"]
    assert len(caplog.messages) == 2
