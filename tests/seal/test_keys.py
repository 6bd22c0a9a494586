import os
import stat
from pathlib import Path

import pytest

from mcast.errors import ConfigError, EnvironmentProblem
from mcast.limits import KEY_FILE_BYTES_MAX, KEYS_MAX
from mcast.seal.keys import KeyRing, derive, generate_key_file, load_keys


def key_line(number: int) -> str:
    return f"{number:02x}" * 32 + "\n"


def write(path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def test_a_generated_file_loads_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "lab.key"
    generate_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(load_keys(path).keys) == 1
    generate_key_file(tmp_path / "other.key")
    assert load_keys(path) != load_keys(tmp_path / "other.key")


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "lab.key", "precious")
    with pytest.raises(EnvironmentProblem, match=r"never overwritten; choose another path"):
        generate_key_file(path)
    assert path.read_text() == "precious"


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="choose a folder"):
        generate_key_file(tmp_path / "no" / "lab.key")


def test_the_first_key_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "lab.key", "# words\n\n  " + key_line(2) + key_line(1).upper())
    assert load_keys(path) == KeyRing((b"\x02" * 32, b"\x01" * 32))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no key"),
        ("# only words\n", "holds no key"),
        ("abc\n", "line 1 is not a key"),
        (key_line(1) + "zz" * 32, "line 2 is not a key"),
        (key_line(1)[:-3], "line 1 is not a key"),
        (key_line(1) * 2, "same key twice"),
        ("".join(map(key_line, range(KEYS_MAX + 1))), "at most"),
        ("#" * (KEY_FILE_BYTES_MAX + 1), "longer than"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_a_bad_file_is_refused_with_the_field_and_a_fix(tmp_path: Path, text: str | bytes, problem: str) -> None:
    path = write(tmp_path / "lab.key", text)
    with pytest.raises(ConfigError, match=problem) as caught:
        load_keys(path)
    assert caught.value.field == "key_file" and caught.value.value == str(path) and caught.value.fix
    assert "0101" not in str(caught.value)


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mcast keygen"):
        load_keys(tmp_path / "lab.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "lab.key", key_line(1), mode)
    with pytest.raises(EnvironmentProblem, match=f"chmod 600 {path}"):
        load_keys(path)


def test_a_fifo_or_a_folder_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="not a regular file"):
            load_keys(path)


def test_a_ring_never_shows_its_keys() -> None:
    assert "1" not in repr(KeyRing((b"\x01" * 32,))).split(" at ")[0]


def test_derive_is_hkdf_as_rfc_5869_tells_it() -> None:
    output = derive(bytes.fromhex("0b" * 22), bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert output.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
