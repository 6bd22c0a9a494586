"""The real command line against real nodes: large values, failing commands, strict addresses, machines that refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mcast.client.client import connect
from mcast.config import default_config, load_config
from mcast.errors import NotSent, Refused
from mcast.lab.processes import Processes
from mcast.limits import COMMAND_BYTES_MAX
from mcast.net.ports import free_port_pair, free_ports
from tests.lan.commands import PATIENCE_S, fails, run, spawned
from tests.lan.load import ask_strictly

EVERYWHERE = ("n1", "n2", "n3")
MIB = 1 << 20
WHY = "connection refused (is it running?)"
FRAIL = """
import mcast


class Frail(mcast.StateMachine):
    version = 1

    def __init__(self):
        self.total = 0

    @mcast.command
    def divide(self, ctx, by):
        self.total += 1
        return 100 // by

    @mcast.command
    def refuse(self, ctx):
        raise mcast.Rejected("not today")

    @mcast.query
    def stumble(self):
        raise KeyError("an address such as 0x7f")

    @mcast.query
    def count(self):
        return self.total

    def snapshot(self):
        return self.total

    def restore(self, data):
        self.total = data
"""


async def test_a_mebibyte_goes_in_and_comes_out_of_every_replica() -> None:
    async with Processes(faults={"*": "loss=5%,seed=6"}) as processes:
        folder = processes.path.parent
        value = ('the quick brown fox \\ " é \n' * (MIB // 20))[:MIB]
        (folder / "big.jsonl").write_text(json.dumps(["set", "big", value]) + "\n")
        submitted = await run(folder, "submit", "--from", "big.jsonl", "--json", "--at", "n2")
        assert submitted.code == 0, submitted.err
        last = submitted.document["last_seq"]
        for node_id in EVERYWHERE:
            asked = await run(folder, "query", "get", "big", "--at", node_id, "--min-seq", str(last), "--json")
            assert asked.document["value"] == value
            assert asked.document["node"] == node_id

        async with processes.connect("n3") as client:
            raw = bytes(range(256)) * (MIB // 256)
            receipt = await client.submit("set", "raw", raw)
            for node_id in EVERYWHERE:
                assert await ask_strictly(processes, node_id, "get", "raw", min_seq=receipt.seq) == raw
            with pytest.raises(Refused, match=str(COMMAND_BYTES_MAX)):
                await client.submit("set", "raw", bytes(COMMAND_BYTES_MAX))
        (folder / "huge.jsonl").write_text(json.dumps(["set", "big", "x" * COMMAND_BYTES_MAX]))
        refused = await run(folder, "submit", "--from", "huge.jsonl")
        assert refused.code == 2
        assert str(COMMAND_BYTES_MAX) in refused.err
        status = await processes.wait_until_equal()
        ends = {node["last_seq"] for node in status["nodes"]}
        assert max(ends) <= receipt.seq + 1, "only the end of the session followed: what is refused is never numbered"


async def test_a_command_that_raises_is_an_outcome_and_the_stream_goes_on(tmp_path: Path) -> None:
    (tmp_path / "frail.py").write_text(FRAIL)
    async with Processes(machine="frail:Frail", keep_in=tmp_path) as processes:
        failed = await run(tmp_path, "submit", "divide", "0", "--json")
        assert (failed.code, failed.document["outcome"]) == (1, "failed")
        assert failed.document["error"] == "ZeroDivisionError", "messages may hold addresses: not part of the outcome"
        rejected = await run(tmp_path, "submit", "refuse", "--json")
        assert (rejected.code, rejected.document["outcome"]) == (1, "rejected")
        assert rejected.document["error"] == "not today"
        assert rejected.document["seq"] > failed.document["seq"]
        went_on = await run(tmp_path, "submit", "divide", "7", "--json")
        assert (went_on.code, went_on.document["value"]) == (0, 14)
        assert await fails(tmp_path, 1, "query", "stumble") == "mcast: query failed: KeyError\n"
        for node_id in EVERYWHERE:
            seen = await ask_strictly(processes, node_id, "count", min_seq=went_on.document["seq"])
            assert seen == 2, "nothing is rolled back"
        await processes.wait_until_equal()


async def test_a_halted_node_that_is_told_to_end_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "frail.py").write_text(FRAIL.replace("100 // by", '"x" * (1 << 62)'))
    async with Processes(nodes=1, machine="frail:Frail", keep_in=tmp_path) as processes:
        assert (await run(tmp_path, "submit", "divide", "1", "--timeout", "1")).code == 3
        assert "halted" in (await run(tmp_path, "status")).err
        assert await processes.stop("n1") == 1
        assert "SIGTERM: ends; it had halted: event" in processes.log("n1").read_text()


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nope", "not JSON"),
        ('["set", "k", [1e400]]', "1e400 is too large"),
        ('["size"]', "unknown command 'size'"),
        ('["delete"]', "takes 1 argument, not 0"),
    ],
)
async def test_a_bad_line_ends_a_file_and_is_named_after_what_was_submitted_before(bad: str, says: str) -> None:
    async with Processes() as processes:
        folder = processes.path.parent
        (folder / "commands.jsonl").write_text(f'\n["set", "k", 1]\n{bad}\n["set", "k", 2]\n')
        done = await run(folder, "submit", "--from", "commands.jsonl", "--json")
        assert done.code == 2
        assert (done.document["count"], done.document["ok"]) == (1, 1)
        assert done.err.startswith("mcast: line 3 of commands.jsonl: ") and says in done.err
        assert done.err.endswith("; 1 command before it was submitted\n")
        assert (await run(folder, "query", "get", "k", "--consistency", "linearizable")).out == "1\n"


@contextlib.asynccontextmanager
async def streaming(processes: Processes, *words: str) -> AsyncIterator[Process]:
    """`mcast submit --from -`, once its first command was answered."""
    async with spawned(processes.path.parent, "submit", "--from", "-", "--json", "--at", "n1", *words) as process:
        assert process.stdin is not None
        process.stdin.write(b'["set", "k", 1]\n')
        async with asyncio.timeout(PATIENCE_S):
            while (await run(processes.path.parent, "query", "get", "k")).out != "1\n":
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        yield process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_stream_says_how_far_it_came(number: signal.Signals) -> None:
    async with Processes() as processes, streaming(processes) as process:
        process.send_signal(number)
        out, err = await process.communicate()
    assert process.returncode == 130
    assert (json.loads(out)["count"], json.loads(out)["ok"]) == (1, 1)
    assert err.decode().startswith("mcast: interrupted: known are the first 1 commands; ")


async def test_a_stream_whose_end_is_not_known_says_how_far_it_came() -> None:
    async with Processes() as processes, streaming(processes, "--timeout", "1.5") as process:
        await asyncio.gather(processes.kill("n2"), processes.kill("n3"))
        out, err = await process.communicate(b'["set", "k", 2]\n')
    assert process.returncode == 3
    assert (json.loads(out)["count"], json.loads(out)["ok"]) == (2, 1)
    assert b"1 of 2 outcomes are known" in err and err.endswith(b"; known are the first 1 commands\n")


async def test_a_reader_of_receipts_that_leaves_is_told_what_is_known() -> None:
    async with Processes(nodes=1) as processes, streaming(processes, "--receipts") as submitting:
        assert submitting.stdin is not None and submitting.stdout is not None and submitting.stderr is not None
        submitting.stdin.write(b'["incr", "k"]\n' * 200_000)
        assert b'"seq"' in await submitting.stdout.readline()
        submitting._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        with contextlib.suppress(ConnectionError, BrokenPipeError):
            await submitting.stdin.drain()
        err = (await submitting.stderr.read()).decode()
        assert await submitting.wait() == 1
        async with processes.connect() as client:
            applied = (await client.query("get", "k", consistency="linearizable")).value
    summary = dict(part.split(": ") for part in err.splitlines()[-2].split(", "))
    assert 0 < int(summary["ok"]) <= applied <= int(summary["count"])
    assert "nobody reads the receipts any more" in err and "Traceback" not in err


async def test_no_locale_ends_a_command_that_was_acknowledged() -> None:
    async with Processes(nodes=1) as processes:
        folder = processes.path.parent
        assert (await run(folder, "submit", "set", "käse", "東")).code == 0
        posix = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
        for locale in ({"PYTHONIOENCODING": "latin-1"}, posix):
            answer = await run(folder, "query", "get", "käse", "--json", environment=locale)
            assert (answer.code, answer.document["value"]) == (0, "東")
            for words in (("submit", "cas", "käse", "東", "東"), ("submit", "append", "käse" * 2, "東"),
                          ("query", "scan", "kä", "9"), ("tail", "--count", "1")):  # fmt: skip
                done = await run(folder, *words, environment=locale)
                assert (done.code, "Traceback" in done.err) == (0, False), done


async def test_a_query_that_names_a_commands_event_sees_it_at_any_node() -> None:
    async with Processes(faults={"*": "loss=20%,seed=3"}) as processes:
        folder = processes.path.parent
        for value in range(3):
            submitted = await run(folder, "submit", "set", "k", str(value), "--json", "--at", "n1")
            seq = str(submitted.document["seq"])
            assert (await run(folder, "query", "--at", "n3", "--min-seq", seq, "get", "k")).out == f"{value}\n"


async def test_a_query_with_a_bound_is_a_bounded_one() -> None:
    async with Processes() as processes:
        for bound in (("--max-ms", "2000"), ("--max-lag", "1000", "--max-ms", "2000")):
            done = await run(processes.path.parent, "query", "size", *bound, "--json")
            assert (done.code, done.document["level"]) == (0, "bounded")


async def test_gaps_names_a_dead_node_and_leaves_the_finding_to_status() -> None:
    async with Processes() as processes:
        folder = processes.path.parent
        await processes.kill("n3")
        gaps = await run(folder, "gaps", "--json")
        assert (gaps.code, gaps.err) == (0, f"mcast: n3 did not answer: {WHY}\n")
        assert gaps.document["nodes"][2] == {"id": "n3"}
        status = await run(folder, "status")
        start = "start it on its machine: mcast node -c FILE --id n3"
        assert (status.code, status.err) == (1, f"mcast: n3 is unreachable: {WHY}; {start}\n")


async def test_at_is_strict_on_the_command_line_and_a_preference_in_a_program() -> None:
    async with Processes() as processes:
        folder = processes.path.parent
        await processes.kill("n3")
        address = processes.config.node("n3").address
        asked = (("query", "size"), ("submit", "set", "k", "1"), ("fault", "clear"))
        for done in await asyncio.gather(*[run(folder, *words, "--at", "n3", "--timeout", "0.5") for words in asked]):
            assert (done.code, done.out) == (3, ""), done
            assert f"n3 at {address}" in done.err
            assert "n1" not in done.err
            assert done.seconds < 5
        assert (await run(folder, "query", "size", "--at", "n2")).out == "0\n", "none of them happened"
        assert (await run(folder, "submit", "set", "k", "1")).code == 0
        async with processes.connect("n3") as client:
            assert client.node != "n3"
            assert (await client.query("get", "k")).value == 1
        with pytest.raises(NotSent, match="n3 at"):
            async with connect(processes.config, "n3", timeout=0.3, strict=True):
                pass


@contextlib.contextmanager
def held(kind: socket.SocketKind, host: str, port: int) -> Iterator[None]:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((host, port))
        if kind == socket.SOCK_STREAM:
            sock.listen()
        yield


def write_config(folder: Path, **changes: tuple[str, str]) -> Path:
    """A config whose ports nobody uses."""
    text = default_config(folder, group="239.77.251.1", port=free_port_pair())
    for number, port in zip((7711, 7712, 7713), free_ports(3), strict=True):
        text = text.replace(f"127.0.0.1:{number}", f"127.0.0.1:{port}")
    for before, after in changes.values():
        assert before in text
        text = text.replace(before, after)
    path = folder / "lab.toml"
    path.write_text(text)
    return path


async def test_an_interface_that_is_not_there(tmp_path: Path) -> None:
    write_config(tmp_path, interface=('interface = "127.0.0.1"', 'interface = "eth77"'))
    line = await fails(tmp_path, 4, "node", "--id", "n1", "--no-wait")
    assert "interface = 'eth77': no interface of this machine matches; use one of: " in line
    assert "lo (127.0.0.1" in line


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
async def test_a_nodes_port_in_use(kind: socket.SocketKind, tmp_path: Path) -> None:
    node = load_config(write_config(tmp_path)).node("n2")
    with held(kind, node.host, node.port):
        line = await fails(tmp_path, 4, "node", "--id", "n2")
    assert node.address in line
    assert "in use" in line
    assert "; " in line.partition("in use")[2], "and what to do about it"


async def test_the_groups_port_in_use(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    with held(socket.SOCK_DGRAM, "0.0.0.0", config.port + 1):
        line = await fails(tmp_path, 4, "node", "--id", "n2")
    assert str(config.port + 1) in line
    assert "change the cluster's port" in line


async def test_a_data_directory_that_is_locked_or_anothers() -> None:
    async with Processes() as processes:
        folder = processes.path.parent
        line = await fails(folder, 4, "node", "--id", "n1")
        assert f"in use by another process (pid {processes.pid('n1')})" in line
        assert str(folder / "data" / "n1") in line
        assert "data_dir" in line
        await processes.stop("n3")
        other = processes.path.read_text().replace('name = "local"', 'name = "elsewhere"')
        (folder / "other.toml").write_text(other)
        line = await fails(folder, 4, "node", "--id", "n3", "-c", "other.toml")
        assert "belongs to cluster 'local', not 'elsewhere'" in line
        assert "data_dir" in line
        (folder / "data" / "n3").rename(folder / "data" / "n4")
        (folder / "other.toml").write_text(processes.path.read_text().replace('id = "n3"', 'id = "n4"'))
        line = await fails(folder, 4, "node", "--id", "n4", "-c", "other.toml")
        assert "n3" in line
        assert "data_dir" in line


@pytest.mark.parametrize(
    ("code", "mode", "content", "says"),
    [(4, 0o644, None, "chmod 600"), (2, 0o600, b"", "keygen"), (2, 0o600, b"\xff" * 100, "keygen")],
    ids=["readable by all", "empty", "noise"],
)
async def test_a_key_file_that_is_none(code: int, mode: int, content: bytes | None, says: str, tmp_path: Path) -> None:
    write_config(tmp_path, key=('# key_file = "lab.key"', 'key_file = "lab.key"'))
    assert (await run(tmp_path, "keygen", "lab.key")).code == 0
    if content is not None:
        (tmp_path / "lab.key").write_bytes(content)
    (tmp_path / "lab.key").chmod(mode)
    line = await fails(tmp_path, code, "node", "--id", "n1")
    assert "key" in line
    assert "lab.key" in line
    assert says in line


async def test_another_key_and_none_are_told_as_such_and_not_as_silence(tmp_path: Path) -> None:
    async with Processes(sealed=True) as processes:
        await processes.stop("n3")
        before = {each["last_seq"] for each in (await processes.wait_until_equal())["nodes"] if each["reachable"]}
        text = processes.path.read_text()
        (tmp_path / "lab.toml").write_text(text)
        (tmp_path / "open.toml").write_text(text.replace('key_file = "lab.key"\n', ""))
        assert (await run(tmp_path, "keygen", "lab.key")).code == 0
        node = ("node", "--id", "n3")
        calls = (("submit", "set", "k", "1", "--timeout", "3"), ("status",), ("fault", "clear", "--at", "n2"))
        ended = await asyncio.gather(*[run(tmp_path, *words) for words in calls])
        # The node by itself: while it runs, it would answer those who hold its key.
        for done in [*ended, await run(tmp_path, *node)]:
            assert (done.code, done.out) == (2, ""), done
            line = done.err.splitlines()[-1]
            assert f"mcast: cluster.key_file = '{tmp_path / 'lab.key'}': n" in line
            assert "wrong key: the other side does not hold this key file's key; use the key file that" in line
        keyless = (("query", "size", "-c", "open.toml", "--timeout", "3"), ("gaps", "-c", "open.toml"))
        for done in await asyncio.gather(*[run(tmp_path, *words) for words in keyless]):
            assert (done.code, done.out) == (2, ""), done
            assert "mcast: cluster.key_file = None: n" in done.err
            assert "only one side has a key file" in done.err
        done = await run(tmp_path, *node, "-c", "open.toml")
        assert done.code == 2
        assert "mcast: cluster.key_file = None: n" in done.err.splitlines()[-1]
        assert {
            each["last_seq"] for each in (await processes.wait_until_equal())["nodes"] if each["reachable"]
        } == before


async def test_a_key_among_nodes_that_have_none_is_told_as_such(tmp_path: Path) -> None:
    async with Processes() as processes:
        text = processes.path.read_text().replace("allow_faults", 'key_file = "lab.key"\nallow_faults')
        (tmp_path / "lab.toml").write_text(text)
        assert (await run(tmp_path, "keygen", "lab.key")).code == 0
        line = await fails(tmp_path, 2, "query", "size", "--timeout", "1")
        assert "it runs without a key file" in line


async def test_what_was_done_is_told_on_stderr_where_stdout_takes_nothing() -> None:
    async with Processes(nodes=1) as processes:
        folder = processes.path.parent
        commands = folder / "commands.jsonl"
        commands.write_text('["incr", "k"]\n' * 5_000)
        reader, gone = os.pipe()
        os.close(reader)
        with open("/dev/full", "wb") as full, open(gone, "wb") as left:
            for stdout, code, few in ((full, 4, 4), (left, 0, 1)):
                for words, reported in (
                    (("submit", "incr", "k"), "to be said was: ok: "),
                    (("submit", "incr", "k", "--json"), 'to be said was: {"seq": '),
                    (("submit", "--from", str(commands)), "to be said was: count: 5000, ok: 5000, "),
                    (("submit", "--from", str(commands), "--receipts"), "nothing more is sent; known are the first"),
                )[:few]:
                    process = await asyncio.create_subprocess_exec(
                        sys.executable, "-m", "mcast", *words, cwd=folder, stdout=stdout, stderr=subprocess.PIPE
                    )
                    err = (await process.communicate())[1].decode()
                    assert reported in err and "count: 0" not in err and "Traceback" not in err, err
                    assert process.returncode == code, err
                query = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "mcast", "query", "get", "k", cwd=folder, stdout=stdout,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
                assert await query.wait() == code
