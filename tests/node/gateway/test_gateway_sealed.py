"""The TCP side with a key file."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from pathlib import Path

import pytest

from mcast.client.client import connect
from mcast.errors import ConfigError
from mcast.machine.kv import KeyValue
from mcast.node.fake import FakeCluster, serving
from mcast.node.gateway import connection as connection_module
from mcast.seal.keys import generate_key_file, load_keys
from mcast.seal.tls import client_context
from mcast.wire.envelope import name_hash
from mcast.wire.stream import StreamKind, pack_message
from tests.node.gateway.raw import hello


async def test_with_a_key_file_everything_is_tls_and_peers_prove_their_incarnation(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "lab.key")
    generate_key_file(tmp_path / "other.key")
    cluster = FakeCluster(tmp_path, KeyValue, key_file=tmp_path / "lab.key")
    async with serving(cluster) as gateways:
        async with connect(cluster.config, at="n2") as client:
            assert (await client.submit("incr", "k")).value == 1
            assert (await client.status())["sequencer"] == "n1"
        assert cluster.shells["n2"].proofs == [(name_hash("n1"), cluster.shells["n1"].incarnation)]
        assert cluster.shells["n1"].proofs == [(name_hash("n2"), cluster.shells["n2"].incarnation)]
        for key_file, words in ((tmp_path / "other.key", "key"), (None, "key")):
            stranger = dataclasses.replace(cluster.config, key_file=key_file)
            with pytest.raises(ConfigError, match=words):
                async with connect(stranger, timeout=1.0):
                    pass
        assert gateways["n1"].statistics().connections <= 1


async def test_what_never_shakes_hands_with_a_sealed_node_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "HANDSHAKE_S", 0.05)
    generate_key_file(tmp_path / "lab.key")
    generate_key_file(tmp_path / "other.key")
    cluster = FakeCluster(tmp_path, KeyValue, nodes=1, key_file=tmp_path / "lab.key")
    where = cluster.config.node("n1")
    async with serving(cluster) as gateways:
        reader, writer = await asyncio.open_connection(where.host, where.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await reader.read() is not None, "the node ends it"
        writer.close()
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection(where.host, where.port, ssl=client_context(load_keys(tmp_path / "other.key")))
        async with asyncio.timeout(5):
            while gateways["n1"].statistics().hostile != {"no TLS handshake": 2}:
                await asyncio.sleep(0.001)


@pytest.mark.parametrize(("holds", "claims"), [("n2", "n3"), ("", "n2")], ids=["another node", "a client"])
async def test_a_peer_is_who_its_certificate_says(tmp_path: Path, holds: str, claims: str) -> None:
    generate_key_file(tmp_path / "lab.key")
    cluster = FakeCluster(tmp_path, KeyValue, key_file=tmp_path / "lab.key")
    where, context = cluster.config.node("n1"), client_context(load_keys(tmp_path / "lab.key"), holds)
    async with serving(cluster) as gateways:
        reader, writer = await asyncio.open_connection(where.host, where.port, ssl=context)
        writer.write(pack_message(StreamKind.HELLO, hello("peer", claims)))
        async with asyncio.timeout(10):
            assert f"its certificate is not that of '{claims}'".encode() in await reader.read()
        assert gateways["n1"].statistics().hostile == {"unknown peer": 1}
        assert cluster.shells["n1"].proofs == []
        writer.close()
