"""What documents name of the code: paths, `file.py:Class.function`, and `Class.member`; and what there is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
OBJECTS: Final = {"core": "Core", "log": "Log"}
"""Objects that documents call by these names -> their class."""
_QUOTED: Final = re.compile(r"`([^`]+)`")
_PATH: Final = re.compile(r"(?:mcast|tests|tools|scenarios)/[\w/.*-]*")
_STEP: Final = re.compile(r"([\w/]+\.py):([\w.]+)")
_MEMBER: Final = re.compile(r"(?:\w+\.)?([A-Z]\w*[a-z]\w*|core|log)\.(\w+)(?:\(.*\))?")


def quoted(text: str) -> list[str]:
    """All that stands between backticks, outside fenced blocks; it may go on in the next line."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [" ".join(found.split()) for found in _QUOTED.findall(prose)]


def paths(text: str) -> list[str]:
    """Files and folders of the tree that a document names."""
    return [name for name in quoted(text) if _PATH.fullmatch(name)]


def steps(text: str) -> list[tuple[str, str]]:
    """(file, function in it) for each `file.py:Class.function`."""
    return [(found[1], found[2]) for name in quoted(text) if (found := _STEP.fullmatch(name))]


def members(text: str) -> list[tuple[str, str]]:
    """(class, member) for each `Class.member`; enum members and public modules are written otherwise."""
    found = [match for name in quoted(text) if (match := _MEMBER.fullmatch(name))]
    return [(OBJECTS.get(match[1], match[1]), match[2]) for match in found]


def _own(node: ast.ClassDef) -> Iterator[str]:
    """Methods, attributes of the class, and what methods assign to self."""
    for item in node.body:
        if isinstance(item, FUNCTION):
            yield item.name
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            yield item.target.id
        elif isinstance(item, ast.Assign):
            yield from (target.id for target in item.targets if isinstance(target, ast.Name))
    for inner in ast.walk(node):
        match inner:
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                yield name


@cache
def classes() -> dict[str, frozenset[str]]:
    """Every class of the package, its members and those of the package's classes that it inherits from."""
    own: dict[str, set[str]] = {}
    bases: dict[str, list[str]] = {}
    for path in sorted((ROOT / "mcast").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                own.setdefault(node.name, set()).update(_own(node))
                bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]

    def whole(name: str) -> set[str]:
        return own.get(name, set()).union(*(whole(base) for base in bases.get(name, ()) if base != name))

    return {name: frozenset(whole(name)) for name in own}


@cache
def functions(file: str) -> frozenset[str]:
    """`function` and `Class.method` of a file."""
    tree = ast.parse((ROOT / file).read_text())
    found = {item.name for item in tree.body if isinstance(item, FUNCTION)}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, FUNCTION)}
    return frozenset(found)
