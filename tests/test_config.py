"""The cluster file: what is accepted, and that everything else is one line naming field, value and fix."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcast import config as config_package
from mcast import limits
from mcast.config import Config, default_config, file, load_config, parse_config, split_address
from mcast.config.capacity import mtu_needed
from mcast.errors import ConfigError
from mcast.seal.datagram import Sealer
from mcast.wire import messages
from mcast.wire.envelope import CONTROL, STREAM
from mcast.wire.frame import CHAIN_ZERO, make_frame
from mcast.wire.messages import Kind
from mcast.wire.records import RecordKind, encode_record

GOOD = """\
[cluster]
name = "lab"
group = "239.77.7.1"
port = 7700
interface = "127.0.0.1"
machine = "mcast.machine.kv:KeyValue"
data_dir = "./data"
sync = "always"
mtu = 1500
profile = "default"
allow_faults = false

[[node]]
id = "n1"
address = "127.0.0.1:7711"

[[node]]
id = "n2"
address = "[::1]:7712"
role = "observer"
interface = "lo"
"""


def parse(text: str, folder: Path = Path("/cluster")) -> Config:
    return parse_config(text.encode(), folder / "lab.toml")


def refused(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return caught.value


def test_a_whole_file_is_read() -> None:
    config = parse(GOOD)
    assert (config.name, config.group, config.port, config.mtu) == ("lab", "239.77.7.1", 7700, 1500)
    assert (config.folder, config.data_dir, config.key_file) == (Path("/cluster"), Path("/cluster/data"), None)
    assert [(node.id, node.host, node.port, node.role) for node in config.nodes] == [
        ("n1", "127.0.0.1", 7711, "member"),
        ("n2", "::1", 7712, "observer"),
    ]
    assert [node.id for node in config.members] == ["n1"]
    assert (config.interface_of("n1"), config.interface_of("n2")) == ("127.0.0.1", "lo")


def test_what_may_be_left_out_has_its_default() -> None:
    lines = [line for line in GOOD.splitlines() if line.split(" ")[0] not in
             ("interface", "machine", "data_dir", "sync", "mtu", "profile", "allow_faults", "role")]  # fmt: skip
    config = parse("\n".join(lines))
    assert (config.interface, config.machine, config.sync) == ("auto", "mcast.machine.kv:KeyValue", "always")
    assert (config.mtu, config.profile, config.allow_faults) == (1500, "default", False)


def test_profile_fast_shortens_heartbeats_and_elections() -> None:
    assert (parse(GOOD).heartbeat_max_s, parse(GOOD).election_timeout_s) == (0.050, (0.5, 1.0))
    fast = parse(GOOD.replace('"default"', '"fast"'))
    assert (fast.heartbeat_max_s, fast.election_timeout_s) == (0.020, (0.15, 0.3))


def test_an_ipv6_group_is_accepted() -> None:
    assert parse(GOOD.replace("239.77.7.1", "FF15::7701")).group == "ff15::7701"


def test_an_unknown_node_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="n1, n2"):
        parse(GOOD).node("n9")


@pytest.mark.parametrize(
    ("before", "after", "field", "value", "says"),
    [
        ('name = "lab"', 'nam = "lab"', "cluster.nam", "lab", "did you mean `name`"),
        ('name = "lab"', "", "cluster.name", None, "missing"),
        ('name = "lab"', 'name = ""', "cluster.name", "", "not a plain name"),
        ('name = "lab"', 'name = "la/b"', "cluster.name", "la/b", "not a plain name"),
        ('name = "lab"', f'name = "{"x" * 65}"', "cluster.name", "x" * 65, "over 64 bytes"),
        ('name = "lab"', "name = 7", "cluster.name", 7, "expected `str`"),
        ('"239.77.7.1"', '"10.0.0.1"', "cluster.group", "10.0.0.1", "not a multicast group"),
        ('"239.77.7.1"', '"224.0.0.5"', "cluster.group", "224.0.0.5", "reserved for routing"),
        ('"239.77.7.1"', '"ff02::1%lo"', "cluster.group", "ff02::1%lo", "zone"),
        ('"239.77.7.1"', '"lab"', "cluster.group", "lab", "not an IP address"),
        ("port = 7700", "port = 65535", "cluster.port", 65535, "1 to 65534"),
        ("port = 7700", "port = 0", "cluster.port", 0, "1 to 65534"),
        ("port = 7700", 'port = "7700"', "cluster.port", "7700", "expected `int`"),
        ("port = 7700", "port = true", "cluster.port", True, "expected `int`"),
        ("port = 7700", "port = 1" + "0" * 300, "cluster.port", "...", "1 to 65534"),
        ('interface = "127.0.0.1"', 'interface = "10.0.0.0/99"', "cluster.interface", "10.0.0.0/99", "not a CIDR"),
        ('"mcast.machine.kv:KeyValue"', '"KeyValue"', "cluster.machine", "KeyValue", "not module:Class"),
        ('"./data"', '""', "cluster.data_dir", "", "not a path"),
        ('"./data"', '"~nobody-there/x"', "cluster.data_dir", "~nobody-there/x", "home"),
        ('"always"', '"never"', "cluster.sync", "never", "invalid enum value"),
        ("mtu = 1500", "mtu = 500", "cluster.mtu", 500, "576 to 61440"),
        ("mtu = 1500", "mtu = 1500.0", "cluster.mtu", 1500.0, "expected `int`"),
        ("mtu = 1500", "command_values_max = 1023", "cluster.command_values_max", 1023, "from 1024 to 1048576"),
        ("mtu = 1500", "command_values_max = 1048577", "cluster.command_values_max", 1048577, "from 1024 to 1048576"),
        ('"default"', '"slow"', "cluster.profile", "slow", '"default" or "fast"'),
        ("allow_faults = false", "allow_faults = 0", "cluster.allow_faults", 0, "expected `bool`"),
        ("mtu = 1500", 'key_file = "none.key"', "cluster.key_file", "none.key", "mcast keygen"),
        ('id = "n2"', 'id = "n1"', "node[n1].id", "n1", "same id"),
        ('id = "n2"', "", "node[#2].id", None, "missing"),
        ('id = "n2"', 'id = "../n2"', "node[#2].id", "../n2", "not a plain name"),
        ('id = "n2"', 'id = "n2"\nrank = 1', "node[n2].rank", 1, "unknown key"),
        ('"[::1]:7712"', '"127.0.0.1:7711"', "node[n2].address", "127.0.0.1:7711", "same as another"),
        ('"[::1]:7712"', '"127.0.0.1"', "node[n2].address", "127.0.0.1", "no port"),
        ('"[::1]:7712"', '"::1:7712"', "node[n2].address", "::1:7712", "brackets"),
        ('"[::1]:7712"', '"127.0.0.1:77120"', "node[n2].address", "127.0.0.1:77120", "1 to 65535"),
        ('"[::1]:7712"', '"256.0.0.1:7712"', "node[n2].address", "256.0.0.1:7712", "octet"),
        ('"[::1]:7712"', f'"{"x" * 60}:7712"', "node[n2].address", "x" * 60 + ":7712", "over 64 bytes"),
        ('"[::1]:7712"', '"bad host:7712"', "node[n2].address", "bad host:7712", "not a host name"),
        ('"observer"', '"voter"', "node[n2].role", "voter", '"member" (votes)'),
        ('interface = "lo"', 'interface = ""', "node[n2].interface", "", "not an interface"),
        ("[[node]]", "[[nodes]]", "nodes", "(array)", "did you mean `node`"),
        ("[cluster]", "[cluster]\n'a\\nb' = 1", r"cluster.'a\\nb'", 1, "unknown key"),
        ("[cluster]", '[cluster]\n"a\\nb" = 1', r"cluster.'a\nb'", 1, "unknown key"),
        ("[cluster]", '[cluster]\n"a.b" = 1', "cluster.a.b", 1, "known here: name"),
        ("[cluster]", "[cluster", "config", "/cluster/lab.toml", "not TOML"),
        ("[cluster]", "x = " + "[" * 3000 + "]" * 3000 + "\n[cluster]", "config", "/cluster/lab.toml", "not TOML"),
    ],
)  # fmt: skip
def test_bad_input_names_field_value_and_fix(before: str, after: str, field: str, value: object, says: str) -> None:
    error = refused(GOOD.replace(before, after))
    assert (error.field, error.value) == (field, value)
    assert says in str(error)
    assert error.fix


def test_no_member_and_too_many_are_refused() -> None:
    head = GOOD.partition("[[node]]")[0]
    node = '[[node]]\nid = "n{0}"\naddress = "127.0.0.1:{1}"\nrole = "{2}"\n'
    assert "no node is a member" in str(refused(head + node.format(1, 7711, "observer")))
    assert "16 members" in str(refused(head + "".join(node.format(n, 7700 + n, "member") for n in range(16))))
    assert "1 to 64" in str(refused(head + "".join(node.format(n, 7700 + n, "observer") for n in range(65))))
    assert "1 to 64" in str(refused("node = []\n" + head))


def members(count: int, id_bytes: int) -> str:
    each = [f'[[node]]\nid = "{n:0{id_bytes}}"\naddress = "{n:045}.example.com:7711"\n' for n in range(count)]
    return GOOD.partition("[[node]]")[0] + "".join(each)


@pytest.mark.parametrize(("count", "id_bytes"), [(1, 1), (3, 64), (15, 2), (15, 64)])
def test_an_mtu_must_carry_the_frames_that_name_all_members(count: int, id_bytes: int) -> None:
    text = members(count, id_bytes).replace("mtu = 1500", "mtu = 9000")
    named = [(node.id, node.address) for node in parse(text).members]
    needed = mtu_needed(named)
    storage, sealer = bytes(16), Sealer(None, "lab", "n1", bytes(16))
    voters = messages.Configuration(0, tuple(messages.Member(node, storage, address) for node, address in named))
    frames = [
        make_frame(1, 1, 1, 0, 0, CHAIN_ZERO, encode_record(kind, 1, 0, 0, 0, messages.encode_message(payload)))
        for kind, payload in (
            (RecordKind.GENESIS, messages.Genesis(storage, voters)),
            (RecordKind.EPOCH_START, messages.EpochStart(named[0][0], voters)),
        )
    ]
    offer = messages.encode_message(messages.GenesisOffer(frames[0].head + frames[0].body))
    datagrams = [*sealer.seal_frames(Kind.DATA, STREAM, 1, frames), sealer.seal(Kind.GENESIS, CONTROL, 1, b"", offer)]
    assert needed == max(map(len, datagrams)) + limits.IP_UDP_BYTES
    if needed > limits.MTU_MIN:
        assert parse(text.replace("mtu = 9000", f"mtu = {needed}")).mtu == needed
        error = refused(text.replace("mtu = 9000", f"mtu = {needed - 1}"))
        assert (error.field, error.value) == ("cluster.mtu", needed - 1)
        assert f"{count} members" in error.problem and f"give {needed} or more" in error.fix


def test_two_ids_with_one_hash_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "name_hash", lambda name: 7)
    assert "64-bit hash" in str(refused(GOOD))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    for path, problem in [(tmp_path / "none.toml", "no such file"), (tmp_path, "is a directory")]:
        with pytest.raises(ConfigError, match=problem):
            load_config(path)
    (tmp_path / "big.toml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(ConfigError, match="over 1048576 bytes"):
        load_config(tmp_path / "big.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "latin.toml")


def test_a_byte_order_mark_is_passed_over_and_other_encodings_are_named(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(GOOD, encoding="utf-8-sig")
    assert load_config(path).name == "lab"
    for encoding, name in [("utf-16", "UTF-16"), ("utf-32", "UTF-32"), ("utf-16-be", None), ("latin-1", None)]:
        path.write_text("# für alle\n" + GOOD, encoding=encoding)
        with pytest.raises(ConfigError, match="save it as UTF-8") as caught:
            load_config(path)
        assert (name or "line 1 is not UTF-8") in str(caught.value)


def test_a_key_file_is_found_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "lab.key").touch()
    (tmp_path / "lab.toml").write_text(GOOD.replace("mtu = 1500", 'key_file = "lab.key"'))
    assert load_config(tmp_path / "lab.toml").key_file == tmp_path.resolve() / "lab.key"


@pytest.mark.parametrize("hosts", [None, ["10.77.0.11", "10.77.0.12"], ["lab-1", "lab-1", "::1"]])
def test_the_written_config_is_a_good_one(hosts: list[str] | None) -> None:
    config = parse(default_config(Path('/odd\n"folder"'), hosts, nodes=5, name="prod", group="239.1.2.3", port=9000))
    assert (config.name, config.group, config.port) == ("prod", "239.1.2.3", 9000)
    assert [node.host for node in config.nodes] == (hosts or ["127.0.0.1"] * 5)
    assert config.interface == ("auto" if hosts else "127.0.0.1")
    assert len({node.address for node in config.nodes}) == len(config.nodes)


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_config_or_a_config_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_config(data, Path("/cluster/lab.toml"))


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert host
    assert 1 <= port <= 65_535


def test_the_package_offers_what_it_says() -> None:
    assert all(hasattr(config_package, name) for name in config_package.__all__)
