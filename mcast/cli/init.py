"""`mcast init`: write a commented cluster file."""

from __future__ import annotations

import secrets
import shlex
import socket
from pathlib import Path
from typing import Annotated, Final

import typer

from mcast import limits
from mcast.cli import options, output
from mcast.cli.arguments import as_typed
from mcast.cli.exits import Ended, ExitCode
from mcast.config import DEFAULT_MACHINE, default_config, parse_config

NODES: Final = 3  # of a cluster on this machine
PORTS: Final = range(10_000, 32_000, 100)  # below those that systems give to outgoing connections
DRAWS: Final = 50  # of ports, where others are in use


def init(  # noqa: PLR0913 - one argument a flag
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="Where to write it; `-` prints it.", metavar="FILE")
    ] = options.DEFAULT_CONFIG,
    hosts: Annotated[str, typer.Option("--hosts", help="Hosts, one node on each.", metavar="A,B,C")] = "",
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", help="How many nodes on this machine, without --hosts.", min=1, metavar="N",
                     show_default=str(NODES)),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The cluster's name.", metavar="NAME")] = "lab",
    group: Annotated[
        str | None, typer.Option("--group", help="The multicast group.", metavar="ADDRESS", show_default="drawn anew")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", help="The stream's port; control takes the next, nodes those from + 11 on.",
                                 metavar="PORT", show_default="drawn anew")
    ] = None,
    machine: Annotated[
        str, typer.Option("--machine", help="The state machine.", metavar="MODULE:CLASS")
    ] = DEFAULT_MACHINE,
    data_dir: Annotated[
        str, typer.Option("--data-dir", help="Where nodes keep their journals; clusters share none.", metavar="FOLDER")
    ] = "./data",
    sealed: Annotated[bool, typer.Option("--sealed", help="Make a key file beside it, and seal all traffic.")] = False,
    json: options.Json = False,
) -> None:  # fmt: skip
    """Write a commented cluster file.

    For nodes on this machine, or with --hosts for one node on each. An existing file is never overwritten. Group and
    port are drawn for each file, so that two clusters of one network seldom meet; --group and --port say them.

    Examples: `mcast init` · `mcast init --hosts 10.77.0.11,10.77.0.12,10.77.0.13 --sealed prod.toml`
    """
    if str(path) == "-":
        options.refuse_unused(context, "where the file is printed", "--json")
    if hosts and nodes is not None:
        raise Ended(ExitCode.USAGE, "--nodes goes without --hosts, which has one node for each host")
    name, machine, data_dir = as_typed(name), as_typed(machine), as_typed(data_dir)
    places = _places(hosts)
    if (members := len(places) or nodes or NODES) > limits.MEMBERS_MAX:
        which = f"{'--hosts' if places else '--nodes'} makes {members} members"
        fix = 'name fewer, and add the others to the file, each with role = "observer"'
        raise Ended(ExitCode.USAGE, f"{which}, of which a cluster has {limits.MEMBERS_MAX} at most; {fix}")
    folder = Path.cwd() if str(path) == "-" else path.resolve().parent
    key = folder / f"{name}.key" if sealed else None

    group = draw_group() if group is None else group
    port = draw_port(0 if places else nodes or NODES) if port is None else port

    def text(key_file: str | None) -> str:
        return default_config(
            folder, places, name=name, group=group, port=port, nodes=nodes or NODES, machine=machine, key_file=key_file,
            data_dir=data_dir,
        )  # fmt: skip

    config = parse_config(text(None).encode(), path.resolve())
    if str(path) == "-":
        if sealed:
            raise Ended(ExitCode.USAGE, "--sealed needs a file to write beside; name one instead of `-`")
        typer.echo(text(None), nl=False)
        return
    _write_new(path, text(None if key is None else key.name), key)
    if json:
        written = {"config": str(path), "key_file": None if key is None else str(key)}
        output.print_result(output.to_json({**written, "nodes": [node.id for node in config.nodes]}))
        return
    _tell_next(path, key, len(config.nodes), hosted=bool(places))


def _tell_next(path: Path, key: Path | None, nodes: int, *, hosted: bool) -> None:
    count = f"{nodes} node{'' if nodes == 1 else 's'}"
    output.note(f"wrote {path}: {count}" + (f", key file {key}" if key else ""))
    given = shlex.quote(str(path))
    if hosted:
        copy = f"copy {path}{' and the key file' if key else ''} to every host"
        output.note(f"next: {copy}, then run there: mcast node -c {given}")
    else:
        output.note(f"next: mcast up -c {given}")


def _places(hosts: str) -> list[str]:
    places = [host.strip() for host in hosts.split(",") if host.strip()]
    for place in places:
        if place.count(":") == 1 or "]:" in place:
            raise Ended(ExitCode.USAGE, f"--hosts takes hosts without ports, not {place}; nodes take --port + 11 on")
    return places


def draw_group() -> str:
    """A random group of those that RFC 2365 leaves to one organization."""
    return f"239.{192 + secrets.randbelow(4)}.{1 + secrets.randbelow(254)}.{1 + secrets.randbelow(254)}"


def draw_port(nodes_here: int) -> int:
    """A random port, with room for all its nodes' up to the next; those of nodes on this machine are free."""
    port = PORTS[0]
    for _ in range(DRAWS):
        port = secrets.choice(PORTS)
        if all(_is_free(number) for number in range(port + 11, port + 11 + nodes_here)):
            break
    return port


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def _make_key(key: Path) -> None:
    from mcast.seal.keys import generate_key_file

    if key.exists():
        remedy = "give another --name, or write the config without --sealed and set key_file"
        raise Ended(ExitCode.ENVIRONMENT, f"key file {key} exists already and is never overwritten; {remedy}")
    generate_key_file(key)


def _write_new(path: Path, text: str, key: Path | None) -> None:
    """The config and, if one is wanted, its key file: both or neither."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise Ended(ExitCode.ENVIRONMENT, f"{path} exists and is never overwritten; name another path") from None
    except FileNotFoundError:
        folder = path.parent
        raise Ended(ExitCode.ENVIRONMENT, f"{folder}: no such folder; make it with: mkdir -p {folder}") from None
    if key is not None:
        try:
            _make_key(key)
        except BaseException:
            path.unlink()
            raise
