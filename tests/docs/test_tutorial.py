"""The tutorial runs: its files as they stand, its commands in order, and they print what it shows."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.docs.document import Step, files, script, steps

DOCUMENT = "TUTORIAL.md"
RUN_S = 300  # seconds; ten on a quiet machine
FOUNDED = """mcast status --json {} | grep -q '"sequencer": "n'"""
ALONE = ["unshare", "-rnm", "bash", "-c", 'ip link set lo up && exec bash "$0"']


def _can_be_alone() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    probe = subprocess.run([*ALONE, "/dev/null"], capture_output=True, timeout=RUN_S, check=False)
    return probe.returncode == 0


def _run(folder: Path, all_steps: list[Step], text: str) -> None:
    """Run the script in a network of its own, where there is one to be had; then compare step by step."""
    (folder / "run.sh").write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MCAST_", "PYTEST_"))}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment["PYTHONWARNINGS"] = "default"
    prefix = ALONE if _can_be_alone() else ["bash"]
    with (folder / "run.log").open("wb") as log:
        running = subprocess.Popen(
            [*prefix, "run.sh"], cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            running.wait(RUN_S)
        finally:
            with suppress(ProcessLookupError):  # what runs in the background outlives the script
                os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    _compare(folder / "results", all_steps, (folder / "run.log").read_text())


def _compare(results: Path, all_steps: list[Step], log: str) -> None:
    for number, step in enumerate(all_steps):
        assert (results / f"{number}.rc").exists(), f"never ended: {step.command}\n{log}"
        code, out, err = (results / f"{number}.{what}" for what in ("rc", "out", "err"))
        follower = all_steps[number + 1] if number + 1 < len(all_steps) else None
        asked = follower is not None and follower.command == "echo $?"
        said = f"$ {step.command}\n{out.read_text()}\n{err.read_text()}"
        assert asked or code.read_text().strip() == "0", said
        background = step.shown == "" and not out.read_text()
        assert background or step.prints(out.read_text()), f"{said}\nshown:\n{step.shown}"


def _write_files(folder: Path) -> None:
    for name, content in files(DOCUMENT).items():
        (folder / name).write_text(content)


@pytest.mark.timeout(RUN_S + 30)
def test_its_files_and_commands_do_what_it_says(tmp_path: Path) -> None:
    _write_files(tmp_path)
    all_steps = steps(DOCUMENT, "console")
    assert len(all_steps) > 15
    _run(tmp_path, all_steps, script(all_steps, {}, {"mcast up": FOUNDED.format("")}))


@pytest.mark.timeout(RUN_S + 30)
def test_its_three_machines_are_three_networks_here(tmp_path: Path) -> None:
    if not _can_be_alone():
        pytest.skip("needs namespaces of its own: unshare -rnm and ip")
    hosts = {"n1": "10.77.0.11", "n2": "10.77.0.12", "n3": "10.77.0.13"}
    _write_files(tmp_path)
    all_steps = steps(DOCUMENT, "console hosts")
    last_start = max(number for number, step in enumerate(all_steps) if step.command.startswith("mcast node"))
    patience = f"for try in $(seq 1000); do {FOUNDED.format('-c prod.toml')} && break; sleep 0.2; done"
    all_steps.insert(last_start + 1, Step("desk", patience, ""))  # a person is slower than this
    lab = ["set -e", "mount -t tmpfs none /run", "ip link add br0 type bridge mcast_snooping 0", "ip link set br0 up",
           "ip addr add 10.77.0.1/24 dev br0"]  # fmt: skip
    for host, address in hosts.items():
        lab += [
            f"ip netns add {host}", f"ip link add {host} type veth peer name eth0 netns {host}",
            f"ip link set {host} master br0 up", f"ip -n {host} link set lo up", f"ip -n {host} link set eth0 up",
            f"ip -n {host} addr add {address}/24 dev eth0", f"mkdir {address}",
        ]  # fmt: skip
    lab += ["set +e", 'scp() { shift; cp -p "${@:1:$#-1}" "${@: -1:1}"; }']
    lab += [f'ln -s {address} "{address}:"' for address in hosts.values()]
    lab += [f'{host}() {{ (cd {address} && exec ip netns exec {host} "$@"); }}' for host, address in hosts.items()]
    ready = {"mcast node": ""}
    text = script(all_steps, {host: host for host in hosts}, ready)
    _run(tmp_path, all_steps, "\n".join(lab) + "\n" + text)
