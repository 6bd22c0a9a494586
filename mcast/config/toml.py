"""TOML of whatever origin: one way to read it, and to say what is wrong with it."""

from __future__ import annotations

import codecs
import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mcast import limits
from mcast.errors import ConfigError

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LOCATED: Final = re.compile(r"(?P<problem>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_NAMED: Final = re.compile(r"(unknown|required) field `(.*)`", re.DOTALL)
_OTHER_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"),
)  # fmt: skip
_TO_UTF8: Final = "save it as UTF-8: iconv -f {} -t UTF-8"
_Tables = TypeVar("_Tables", bound=msgspec.Struct)


def parse_toml_untrusted(data: bytes, what: str, file: Path, fix: str) -> dict[str, Any]:
    """The document in a file's bytes. `what` the file is to be and the `fix` for another one go into the error.

    Raises:
        ConfigError: too large, or not TOML.
    """
    if len(data) > limits.CONFIG_BYTES_MAX:
        raise ConfigError(what, str(file), f"over {limits.CONFIG_BYTES_MAX} bytes", fix)
    for mark, encoding in _OTHER_MARKS:
        if data.startswith(mark):
            raise ConfigError(what, str(file), f"not TOML: it is written in {encoding}", _TO_UTF8.format(encoding))
    try:
        return tomllib.loads(data.removeprefix(codecs.BOM_UTF8).decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"not TOML: byte 0x{data[error.start]:02x} in line {line} is not UTF-8"
        raise ConfigError(what, str(file), problem, "save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        problem = " ".join(str(error).split())[:200]
        raise ConfigError(what, str(file), f"not TOML: {problem}", "correct that line") from error


def convert_untrusted(document: dict[str, Any], into: type[_Tables], fixes: Mapping[str, str]) -> _Tables:
    """The document as structs. `fixes` says of every field, by its "table.key", what belongs there.

    Raises:
        ConfigError: a key that is unknown or missing, or a value of another type.
    """
    try:
        return msgspec.convert(document, into)
    except msgspec.ValidationError as error:
        raise _translated(document, str(error), fixes) from None


def item_field(table: str, item: object, index: int) -> str:
    """An array item's name in errors: its plain `id`, else its number, from 1."""
    name = item.get("id") if isinstance(item, dict) else None
    return f"{table}[{name if isinstance(name, str) and PLAIN_NAME.fullmatch(name) else f'#{index + 1}'}]"


def short(value: object) -> object:
    """The value as an error shows it: a table is named only, a long text or number cut."""
    if isinstance(value, str):
        return value if len(value) <= 100 else value[:97] + "..."
    if isinstance(value, dict | list):
        return f"({'table' if isinstance(value, dict) else 'array'})"
    return value if value is None or isinstance(value, float) or _is_small(value) else "..."


def _is_small(value: object) -> bool:
    return isinstance(value, int) and abs(value) < 2**64


def _translated(document: dict[str, Any], text: str, fixes: Mapping[str, str]) -> ConfigError:
    """What msgspec found, as field, value, problem and fix."""
    located = _LOCATED.fullmatch(text)
    assert located is not None
    problem, field, schema = located["problem"], "", ""
    at: Any = document
    for step in _STEP.finditer(located["path"] or ""):
        key, index = step.groups()
        if index is None:
            at, field, schema = at[key], f"{field}.{key}" if field else key, f"{schema}.{key}" if schema else key
        else:
            at = at[int(index)]
            field = item_field(field, at, int(index))
    named = _NAMED.search(problem)
    if named is None:
        return ConfigError(field, short(at), problem[:1].lower() + problem[1:], fixes[schema])
    kind, key = named.groups()
    fits = PLAIN_NAME.fullmatch(key) and len(key) <= limits.NAME_BYTES_MAX
    shown = key if fits else repr(key[: limits.NAME_BYTES_MAX])
    field = f"{field}.{shown}" if field else shown
    if kind == "required":
        return ConfigError(field, None, "missing", fixes[f"{schema}.{key}" if schema else key])
    return ConfigError(field, short(at[key]), "unknown key", _fix_unknown(schema, key, fixes))


def _fix_unknown(table: str, key: str, fixes: Mapping[str, str]) -> str:
    known = [name.rpartition(".")[2] for name in fixes if name.rpartition(".")[0] == table]
    close = difflib.get_close_matches(key, known, 1)
    return f"did you mean `{close[0]}`?" if close else f"remove it; known here: {', '.join(known)}"
