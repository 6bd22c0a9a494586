"""Which node of a config this machine is, and what ends a node whose parent is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.cli.node import infer_id
from mcast.config import Config, NodeConfig
from mcast.errors import ConfigError

ROOT = Path(__file__).parents[2]


def config(*hosts: str) -> Config:
    nodes = tuple(NodeConfig(id=f"n{index}", address=f"{host}:7711") for index, host in enumerate(hosts, 1))
    return Config(name="lab", nodes=nodes, folder=Path("/"), data_dir=Path("/data"))


def test_the_id_is_inferred_from_a_local_address() -> None:
    assert infer_id(config("10.77.0.11", "10.77.0.12", "[fe80::1]"), {"127.0.0.1", "10.77.0.12"}) == "n2"
    assert infer_id(config("10.77.0.11", "[::1]"), {"::1"}) == "n2"
    assert infer_id(config("10.77.0.11", "localhost"), {"127.0.0.1", "::1"}) == "n2"


@pytest.mark.parametrize(
    ("addresses", "says"),
    [({"10.77.0.13"}, "no node has an address of this machine"), ({"10.77.0.11", "10.77.0.12"}, "n1, n2 all have")],
)
def test_it_is_asked_for_where_it_is_not_plain(addresses: set[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        infer_id(config("10.77.0.11", "10.77.0.12"), addresses)


def test_a_node_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "lab.toml").touch()
    done = subprocess.run(
        [sys.executable, "-m", "mcast", "node", "--parent", "1", "-c", "lab.toml"], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 4
    assert "parent process 1 is gone" in done.stderr
