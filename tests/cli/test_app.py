"""The program as a whole, in process: files it writes, bad input it refuses, whom it says it asked."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mcast.__main__ import run
from mcast.cli import init
from mcast.cli.app import app, main
from mcast.cli.up import Supervisor
from mcast.config import load_config

ROOT = Path(__file__).parents[2]


PLAIN = ["init", "--group", "239.77.7.1", "--port", "7700"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCAST_CONFIG", raising=False)


def fails(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Run a command line that must end with this code, nothing on stdout and one line on stderr."""
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    names = {command.name for command in app.registered_commands}
    assert names >= {"init", "keygen", "up", "node", "submit", "query", "status", "gaps", "fault"}
    assert not [name for name in names if not re.search(rf"\b{name}\b", out)]
    assert "130 interrupted" in out


def test_init_writes_a_config_and_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"config": "lab.toml", "key_file": None, "nodes": ["n1", "n2", "n3"]}
    before = Path("lab.toml").read_text()
    assert "exists" in fails(capsys, 4, "init")
    assert Path("lab.toml").read_text() == before


def test_init_for_hosts_with_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = ["--hosts", "10.77.0.11, 10.77.0.12"]
    assert main(["init", *hosts, "--port", "7700", "--name", "prod", "--sealed", "prod.toml"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "copy prod.toml and the key file" in err
    config = load_config("prod.toml")
    assert (config.name, config.key_file) == ("prod", Path("prod.key").resolve())
    assert [node.address for node in config.nodes] == ["10.77.0.11:7711", "10.77.0.12:7711"]


def test_init_draws_group_and_port_for_each_file_unless_they_are_given() -> None:
    drawn = set()
    for number in range(8):
        assert main(["init", "--hosts", "10.77.0.11" if number % 2 else "", f"{number}.toml"]) == 0
        config = load_config(f"{number}.toml")
        assert config.group.startswith("239.19") and 10_000 <= config.port < 32_000
        assert [node.port for node in config.nodes] == [config.port + 11 + at for at in range(len(config.nodes))]
        drawn.add((config.group, config.port))
    assert len(drawn) == 8
    assert main(["init", "--group", "239.77.7.1", "--port", "7700", "given.toml"]) == 0
    config = load_config("given.toml")
    assert (config.group, config.port, config.nodes[0].port) == ("239.77.7.1", 7700, 7711)


def test_init_passes_over_ports_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = init.draw_port(2), init.draw_port(3)
    while ports[0] == ports[1]:
        ports = ports[0], init.draw_port(3)
    monkeypatch.setattr(init, "PORTS", ports)
    with socket.create_server(("127.0.0.1", ports[0] + 12)):
        assert {init.draw_port(2) for _ in range(5)} == {ports[1]}


def test_init_leaves_no_key_behind_where_the_config_exists_and_no_config_where_the_key_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["init", "one.toml"]) == 0
    assert main(["init", "--sealed", "two.toml"]) == 0
    capsys.readouterr()
    Path("lab.key").rename("kept.key")
    assert "exists" in fails(capsys, 4, "init", "--sealed", "one.toml")
    assert not Path("lab.key").exists()
    Path("kept.key").rename("lab.key")
    line = fails(capsys, 4, "init", "--sealed", "three.toml")
    assert "never overwritten; give another --name, or write the config without --sealed and set key_file" in line
    assert not Path("three.toml").exists()


def test_init_says_how_to_make_a_missing_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert "x/y: no such folder; make it with: mkdir -p x/y" in fails(capsys, 4, "init", "x/y/lab.toml")


def test_init_keeps_clusters_of_one_folder_apart(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--nodes", "1", "--data-dir", "./solo data", "solo.toml"]) == 0
    assert "wrote solo.toml: 1 node\n" in capsys.readouterr().err
    assert load_config("solo.toml").data_dir == Path("solo data").resolve()


def test_a_command_that_is_told_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "my lab.toml"]) == 0
    assert capsys.readouterr().err.endswith("next: mcast up -c 'my lab.toml'\n")
    Supervisor(Path("my lab.toml"), load_config("my lab.toml"), None, json=False)._tell_how()
    assert "mcast status -c 'my lab.toml';" in capsys.readouterr().err


def test_init_prints_instead_of_writing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "-", "--nodes", "5"]) == 0
    assert capsys.readouterr().out.count("[[node]]") == 5
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        ("sim --seed 1 --seeds 3", "--seeds"), ("sim --seed 1 --from 0", "--from"),
        ("sim --ablations --trace", "--trace"),
        ("sim --scenario x --workers 2", "--workers"), ("sim --ablations --seed 4", "--seed"),
        ("bench latency --rate 100 --count 3000", "--count"), ("bench latency --count 5 --seconds 1", "--seconds"),
        ("bench failover --pause 3", "--pause"), ("bench scale log --events 2000", "--events"),
        ("gaps --json --newest 3", "--newest"),
    ],
)  # fmt: skip
def test_no_option_is_ignored(words: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"mcast: {flag} does nothing " in fails(capsys, 2, *words.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--group", "10.0.0.1"], "not a multicast group"),
        (["--name", "a b"], "not a plain name"),
        (["--port", "70000"], "1 to 65534"),
        (["--hosts", "x y"], "not a host name"),
        (["--hosts", "10.0.0.1,10.0.0.2:7711"], "--hosts takes hosts without ports, not 10.0.0.2:7711"),
        (["--hosts", "[::1]:7711"], "--hosts takes hosts without ports"),
        (["-", "--json"], "--json does nothing where the file is printed"),
        (["--hosts", "10.0.0.1", "--nodes", "5"], "--nodes goes without --hosts"),
    ],
)
def test_init_refuses_what_would_not_run(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in fails(capsys, 2, "init", *words)
    assert not list(Path().iterdir())


def test_keygen_writes_for_its_owner_only_and_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keygen", "lab.key"]) == 0
    capsys.readouterr()
    key = Path("lab.key").read_bytes()
    assert stat.S_IMODE(Path("lab.key").stat().st_mode) == 0o600
    assert "never overwritten" in fails(capsys, 4, "keygen", "lab.key")
    assert Path("lab.key").read_bytes() == key


@pytest.mark.parametrize("command", [["keygen", "lab.key"], ["init", "lab.toml"]])
def test_what_was_written_is_said_where_stdout_takes_nothing(command: list[str], tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mcast", *command, "--json"], stdout=full, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, timeout=30, check=False,
        )  # fmt: skip
    assert "to be said was: {" in done.stderr and command[1] in done.stderr
    assert (tmp_path / command[1]).exists() and done.returncode not in (0, 70)


def bad_config(before: str, after: str) -> None:
    assert main(PLAIN) == 0
    text = Path("lab.toml").read_text()
    assert before in text
    Path("lab.toml").write_text(text.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('name = "lab"', 'name = "lab"\ncolour = "red"', "cluster.colour = 'red': unknown key"),
        ('id = "n2"', 'id = "n1"', "node[n1].id = 'n1': the same id"),
        ('"239.77.7.1"', '"192.168.1.1"', "cluster.group = '192.168.1.1': not a multicast group"),
        ('# key_file = "lab.key"', 'key_file = "no.key"', "cluster.key_file = 'no.key': no such file"),
    ],
)
@pytest.mark.parametrize(
    "command", [["up"], ["node", "--id", "n1"], ["status"], ["query", "get", "k"], ["fault", "clear", "--at", "n1"]]
)
def test_every_command_refuses_a_bad_config_in_one_line(
    command: list[str], before: str, after: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_config(before, after)
    capsys.readouterr()
    assert f"mcast: lab.toml: {says}" in fails(capsys, 2, *command)


def test_a_missing_config_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "mcast init" in fails(capsys, 2, "status", "-c", "none.toml")


def test_unusable_words_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PLAIN) == 0
    capsys.readouterr()
    assert "n1, n2, n3" in fails(capsys, 2, "query", "get", "k", "--at", "n9")
    assert "mcast: --id is missing: n1, n2, n3 all have an address" in fails(capsys, 2, "node")
    assert "unknown fault" in fails(capsys, 2, "fault", "--at", "n1", "less=5%")
    assert "NAME" in fails(capsys, 2, "submit")
    assert "--from" in fails(capsys, 2, "submit", "--receipts", "set", "k", "1")
    for words in (["query", "get", "k", "--consistency", "some"], ["query", "get", "--min-seq", "-1"], ["nosuch"],
                  ["fault", "clear"]):  # fmt: skip
        assert main(words) == 2
    capsys.readouterr()
    assert main(["status", "--timeout", "0"]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "0 s: must be above 0 and at most 86,400 seconds" in said


@pytest.mark.parametrize("bound", ["--max-ms", "--max-lag"])
@pytest.mark.parametrize("level", ["session", "linearizable"])
def test_bounds_of_a_query_go_with_bounded_only(bound: str, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, 2, "query", "get", "k", bound, "5", "--consistency", level)
    assert line == "mcast: --max-ms and --max-lag go with --consistency bounded\n"


def unused_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["gaps", "--json"],
        ["query", "get", "k", "--at", "n2"],
        ["submit", "set", "k", "1"],
        ["fault", "clear", "--at", "n2"],
        ["handover", "--to", "n1"],
    ],
)
def test_nobody_answering_is_exit_3_and_says_who_was_asked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(PLAIN) == 0
    capsys.readouterr()
    text, ports = Path("lab.toml").read_text(), unused_ports(3)
    for old, new in zip((7711, 7712, 7713), ports, strict=True):
        text = text.replace(str(old), str(new))
    Path("lab.toml").write_text(text)
    assert f"n2 at 127.0.0.1:{ports[1]}" in fails(capsys, 3, *words, "--timeout", "0.2")


@pytest.mark.parametrize("command", ["status", "gaps"])
def test_nobody_answering_is_told_with_the_reasons(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two refuse, one takes connections and says nothing."""
    assert main(PLAIN) == 0
    capsys.readouterr()
    text, ports = Path("lab.toml").read_text(), unused_ports(2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ports.append(mute.getsockname()[1])
        for old, new in zip((7711, 7712, 7713), ports, strict=True):
            text = text.replace(str(old), str(new))
        Path("lab.toml").write_text(text)
        line = fails(capsys, 3, command, "--timeout", "0.2")
    n1, n2, n3 = (f"n{number} at 127.0.0.1:{port}" for number, port in enumerate(ports, 1))
    assert f"asked {n1}, {n2}: connection refused (is it running?); {n3}: no answer within 0.2 s; run mcast up" in line


def test_a_bug_is_told_as_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("mcast.cli.init.default_config", broken)
    assert main(["init"]) == 70
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("mcast: this is a bug: of all things\n")


def test_run_as_a_module_it_calls_itself_mcast() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mcast", "--help"], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "Usage: mcast [OPTIONS]" in done.stdout


def test_an_interrupt_while_modules_are_imported_ends_it_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "mcast.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "mcast.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert run() == 130


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [("init - >&-", 0, ""), ("init - >&- 2>&-", 0, ""), ("submit --from - <&-", 2, "--from = '-': stdin is closed")],
)
def test_closed_streams_are_no_bug(words: str, code: int, says: str) -> None:
    assert main(PLAIN) == 0
    command = f"exec {sys.executable} -m mcast {words}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr and "Traceback" not in done.stderr


def test_completion_knows_the_configs_nodes() -> None:
    assert main(PLAIN) == 0
    program = "import sys; sys.argv = ['mcast']; from mcast.cli.app import main; main()"
    words = {"_MCAST_COMPLETE": "complete_bash", "COMP_WORDS": "mcast query -c lab.toml --at n", "COMP_CWORD": "5"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **words}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.split() == ["n1", "n2", "n3"]


def test_asking_for_help_imports_nothing_heavy() -> None:
    heavy = {"cryptography", "mcast.client.client", "mcast.node.node"}
    program = (
        f"import sys; from mcast.cli.app import main; main(['submit', '--help']); assert not {heavy} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL, timeout=30, check=True)


def test_init_names_what_to_do_about_too_many_members(capsys: pytest.CaptureFixture[str]) -> None:
    hosts = ",".join(f"10.0.0.{number}" for number in range(1, 17))
    for words in (["--nodes", "16"], ["--hosts", hosts]):
        said = fails(capsys, 2, "init", *words)
        assert f"{words[0]} makes 16 members, of which a cluster has 15 at most" in said and "observer" in said
    assert main(["init", "--nodes", "15"]) == 0


@pytest.mark.parametrize(
    "words",
    ["query get --max-ms nan", "query get --max-ms inf", "query get --min-seq 9223372036854775808",
     "query get --max-lag 9223372036854775808", "tail --from 9223372036854775808", "tail --from 0"],
)  # fmt: skip
def test_numbers_that_are_none_or_too_large_are_usage(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert f"'{words.split()[-2]}'" in capsys.readouterr().err


def test_names_are_taken_as_they_were_typed_where_the_locale_knows_ascii_only(
    capsys: pytest.CaptureFixture[str],
) -> None:
    typed = "käse".encode().decode("ascii", "surrogateescape")
    assert main(["init", "--data-dir", f"./{typed}", "--machine", f"{typed}:Shop"]) == 0
    config = load_config("lab.toml")
    assert (config.data_dir.name, config.machine) == ("käse", "käse:Shop")
    capsys.readouterr()
    assert "no node" in fails(capsys, 3, "query", typed, "--timeout", "0.2")
    bad = "\udcff"
    for words in (["query", bad], ["submit", bad], ["init", "other.toml", "--name", bad]):
        assert "is not UTF-8" in fails(capsys, 2, *words)
