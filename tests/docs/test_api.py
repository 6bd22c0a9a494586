"""The API's document: every block runs, every public name is there, and a user's program passes mypy --strict."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import mcast
from mcast.config import default_config
from mcast.machine.kv import KeyValue
from mcast.net.ports import free_port_pair, free_ports
from mcast.testing.cluster import cluster
from tests.docs.document import DOCS, fences

ROOT = Path(__file__).parents[2]
DOCUMENT = "API.md"
TEXT = (DOCS / DOCUMENT).read_text()


def write_configs(folder: Path, config: mcast.Config) -> None:
    nodes = "".join(f'[[node]]\nid = "{node.id}"\naddress = "{node.address}"\n' for node in config.nodes)
    head = f'[cluster]\nname = "{config.name}"\ngroup = "239.77.7.1"\nport = 7700\ninterface = "127.0.0.1"\n'
    (folder / "lab.toml").write_text(head + nodes)
    one = default_config(folder, nodes=1, port=free_port_pair()).replace('"always"', '"os"')
    (folder / "one.toml").write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{free_ports(1)[0]}", one))


async def run(code: CodeType, names: dict[str, Any], *, in_thread: bool) -> None:
    if in_thread:
        await asyncio.to_thread(exec, code, names)
    elif inspect.iscoroutine(ran := eval(code, names)):
        await ran


async def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"mcast": mcast, "__name__": "documented"}
    blocks = [(info, content) for info, content in fences(DOCUMENT) if info.startswith("python")]
    assert len(blocks) >= 10
    async with cluster(KeyValue) as c:
        write_configs(tmp_path, c.config)
        for info, content in blocks:
            code = compile(content, content.splitlines()[0], "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            await run(code, names, in_thread=info == "python sync")


def test_every_public_name_is_told() -> None:
    reported = set(re.findall(r"\w+", TEXT))
    assert not [name for name in mcast.__all__ if name not in reported]
    for owner in (mcast.Client, mcast.Node, mcast.Receipts, mcast.Events, mcast.SyncEvents):
        members = {name for name in vars(owner) if not name.startswith("_")}
        own = {"leave_to_parent", "timeout_s", "config", "id", "shell", "gateway", "known", "known_first",
               "expect", "take_answers", "asend", "athrow", "aclose", "batch"}  # fmt: skip
        assert not members - own - reported, owner


def test_what_the_document_says_of_signatures_is_so() -> None:
    checked = 0
    methods = (mcast.Client, mcast.Node, mcast.testing.Cluster)
    for module, name, arguments in re.findall(r"`((?:mcast\.)?(?:testing\.)?)(\w+)\(([^`]*)\)`", TEXT):
        owners = {"mcast.": (mcast,), "mcast.testing.": (mcast.testing,)}.get(module, methods)
        owner: Any = next((one for one in owners if callable(getattr(one, name, None))), None)
        assert owner is not None, name
        real = inspect.signature(getattr(owner, name))
        if "..." in arguments:
            continue
        for word in re.split(r", (?![^\[]*\])", arguments):
            argument, _, default = word.partition("=")
            if word in ("*", "") or word.startswith("*"):
                continue
            assert argument in real.parameters, (name, argument)
            if default and not default.startswith("5"):
                assert repr(real.parameters[argument].default) == default.replace('"', "'"), (name, word)
            checked += 1
    assert checked > 20


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(300)
def test_a_user_s_program_passes_mypy_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong_program.py"
    lines = {
        "mcast.conect('lab.toml')": "attr-defined",
        "mcast.Recipt": "attr-defined",
        "mcast.testing.clusterr": "attr-defined",
        "client.query('get', 'k', consistency='linearisable')": "arg-type",
        "client.status()['sequenser']": "typeddict-item",
        "client.status()['nodes'][0]['comit_seq']": "typeddict-item",
        "client.submit_many([])[0].sequence": "attr-defined",
        "client.subscribe(from_seq='later')": "arg-type",
        "next(client.subscribe()).nam": "attr-defined",
        "mcast.Node('lab.toml').status()['stat']": "typeddict-item",
    }
    wrong.write_text("import mcast\n\nclient = mcast.connect_sync('lab.toml')\n" + "\n".join(lines) + "\n")
    reported = mypy(Path(__file__).with_name("program.py"), wrong).stdout
    assert "docs/program.py" not in reported, reported
    found = {int(line): code for line, code in re.findall(r"wrong_program\.py:(\d+): error: .*\[([\w-]+)\]", reported)}
    assert found == {number: code for number, code in enumerate(lines.values(), start=4)}, reported


async def test_the_user_s_program_runs(tmp_path: Path) -> None:
    from tests.docs import program

    async with cluster(program.Library) as c:
        write_configs(tmp_path, c.config)
        path = str(tmp_path / "lab.toml")
        assert await program.lend(path) == ["Emma", "Ulysses"]
        assert await asyncio.to_thread(program.look, path) == ("live", 3)
