"""A node that is older than its network: namespaces in which addresses, cards and names come later."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcast.config import default_config
from mcast.lab.lan import lan_problem

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(lan_problem() is not None, reason="no namespaces here")


class Machine:
    """A network of its own with loopback only, and an /etc/hosts of its own."""

    def __init__(self, folder: Path, holder: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net", f"--mount=/proc/{holder.pid}/ns/mnt"]

    def run(self, *commands: str) -> str:
        done = [subprocess.run([*self._enter, *one.split()], capture_output=True, text=True) for one in commands]
        assert not any(one.returncode for one in done), done
        return done[-1].stdout

    def hosts(self, text: str) -> None:
        (self._folder / "hosts").write_text(f"127.0.0.1 localhost\n{text}\n")

    def config(self, host: str, interface: str, others: str = "") -> None:
        """Of one node on this host; `others` are observers elsewhere."""
        text = default_config(self._folder, [host]).replace('"auto"', json.dumps(interface))
        for number, other in enumerate(filter(None, [others]), 2):
            text += f'\n[[node]]\nid = "n{number}"\naddress = "{other}:7711"\nrole = "observer"\n'
        (self._folder / "lab.toml").write_text(text)

    @contextlib.contextmanager
    def node(self, *options: str) -> Iterator[Node]:
        words = [*self._enter, sys.executable, "-m", "mcast", "node", "-c", str(self._folder / "lab.toml"), *options]
        with (self._folder / "node.log").open("w") as log:
            process = subprocess.Popen(words, cwd=self._folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=log)
        try:
            yield Node(process, self._folder / "node.log")
        finally:
            process.kill()
            process.wait(10)


class Node:
    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    def says(self, words: str) -> str:
        """Wait for it to log these words; the line."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            for line in self._log.read_text().splitlines():
                if words in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"never said {words!r}: {self._log.read_text()}")

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def ends(self, number: int | None = None) -> int:
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(10)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    (tmp_path / "hosts").touch()
    (tmp_path / "resolv.conf").touch()  # nobody to ask
    script = (
        f"mount --make-rprivate / && mount --bind {tmp_path}/hosts /etc/hosts && "
        f"mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && ip link set lo up && "
        "mount -t sysfs none /sys; sysctl -qw net.ipv6.conf.default.disable_ipv6=1 2>/dev/null; "
        "echo held; exec cat"
    )
    words = ["unshare", "-n", "-m", "sh", "-c", script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield Machine(tmp_path, holder)
        holder.stdin.close()


def card(name: str, address: str) -> tuple[str, ...]:
    return (
        f"ip link add {name} type veth peer name {name}p", f"ip link set {name}p up", f"ip link set {name} up",
        f"ip addr add {address}/24 dev {name}",
    )  # fmt: skip


def test_it_waits_for_its_address_says_so_once_and_takes_the_card_that_has_it(machine: Machine) -> None:
    machine.run(*card("d0", "192.168.1.5"))
    machine.config("10.77.0.11", "auto")
    with machine.node() as node:
        assert "10.77.0.11" in node.says("waits for its network")
        time.sleep(1.2)
        assert len(node.lines) == 1
        machine.run(*card("d1", "10.77.0.11"))
        place = node.says("multicasts to")
        assert "on d1 (10.77.0.11)" in place and "d1 carries the own address" in place
        assert place in node.lines[2], "the first line once the network is there"
        node.says("n1 is the sequencer")
        assert node.ends(signal.SIGTERM) == 0


def test_without_waiting_it_ends_with_4_and_told_to_end_with_0(machine: Machine) -> None:
    machine.config("10.77.0.11", "d7")
    machine.run(*card("d1", "10.77.0.11"))
    with machine.node("--no-wait") as node:
        assert node.ends() == 4
        assert "'d7': no interface of this machine matches" in node.lines[-1]
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        with machine.node() as node:
            node.says("waits for its network")
            assert node.ends(number) == code
            assert "Traceback" not in "".join(node.lines)


def test_it_waits_for_its_name_and_tells_what_debian_writes(machine: Machine) -> None:
    machine.config("alpha", "auto", others="10.77.0.12")
    machine.run(*card("d1", "10.77.0.11"))
    with machine.node("--id", "n1") as node:
        assert "alpha:7711: the name cannot be resolved" in node.says("waits for its network")
        machine.hosts("127.0.1.1 alpha")
        line = node.says("alpha means 127.0.1.1")
        assert "/etc/hosts" in line and "put the address of its network card before alpha" in line
        machine.hosts("10.77.0.11 alpha")
        assert "takes TCP and UDP on 10.77.0.11:7711" in node.says("multicasts to")
        node.says("serves lab")


def test_a_name_of_another_node_that_nobody_knows_is_told_and_keeps_no_node_waiting(machine: Machine) -> None:
    machine.config("10.77.0.11", "auto", others="beta")
    machine.run(*card("d1", "10.77.0.11"))
    with machine.node() as node:
        node.says("n1 is the sequencer")
        assert "beta:7711: the name cannot be resolved" in node.says("the name of n2 is unknown")
        machine.hosts("10.77.0.12 beta")
        node.says("the name of n2 is unknown: no more")
        assert node.ends(signal.SIGTERM) == 0


def test_an_own_address_on_loopback_sends_nothing_out_of_a_card(machine: Machine) -> None:
    machine.hosts("")
    machine.run(*card("d1", "10.77.0.11"))
    machine.config("localhost", "auto")
    before = sent(machine)
    with machine.node() as node:
        assert "on lo (127.0.0.1)" in node.says("all of that stays on this machine")
        node.says("n1 is the sequencer")
        time.sleep(0.5)
        assert node.ends(signal.SIGTERM) == 0
    assert sent(machine) == before


def sent(machine: Machine) -> int:
    [device] = json.loads(machine.run("ip -s -j link show d1"))
    return int(device["stats64"]["tx"]["packets"])
