import os
import socket
import subprocess
import sys

import pytest

from mcast.errors import EnvironmentProblem
from mcast.net import ports
from mcast.net.ports import FIRST, MANY, free_port_pair, free_ports


def test_no_port_is_given_twice() -> None:
    given = [port for _ in range(50) for port in (*free_ports(3), free_port_pair())]
    assert len(set(given)) == len(given)
    assert all(FIRST <= port < FIRST + MANY for port in given)


def test_ports_that_are_used_are_passed_over() -> None:
    [port] = free_ports(1)
    following = FIRST + (port - FIRST + 1) % MANY
    with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        stream.bind(("127.0.0.1", following))
        assert free_ports(1) != [following]
        above = free_port_pair() + 4  # the second of the pair behind the next one
        datagrams.bind(("127.0.0.1", above))
        taken = [free_port_pair(), free_port_pair()]
        assert above not in taken and above - 1 not in taken


def test_other_processes_begin_elsewhere() -> None:
    program = "import os; from mcast.net.ports import free_ports; print(os.getpid(), *free_ports(5))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    pid, *theirs = map(int, done.stdout.split())
    assert pid != os.getpid() and not set(theirs) & set(free_ports(5))


def test_where_none_is_free_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "MANY", 3)
    with pytest.raises(EnvironmentProblem, match="no 4 free TCP ports"):
        free_ports(4)
