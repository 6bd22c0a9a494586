"""The runnable parts of a document: files, commands with what they print, and tables."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mcast

DOCS = Path(mcast.__file__).parent / "docs"
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PROMPT = re.compile(r"^(\w*)\$ (.*)$")
_FILE_NAME = re.compile(r"# (\S+\.\w+)\n")


@dataclass(frozen=True, slots=True)
class Step:
    """A command, on which host ("" where prompts name none), and the pattern of what it prints."""

    host: str
    command: str
    shown: str

    def prints(self, text: str) -> bool:
        """Whether this is what the document shows; `...` stands for anything."""
        pattern = ".*".join(re.escape(part) for part in self.shown.split("..."))
        printed = "\n".join(line.rstrip() for line in text.splitlines()).strip()
        return re.fullmatch(pattern, printed, re.DOTALL) is not None


def fences(document: str) -> Iterator[tuple[str, str]]:
    """(info string, content) of each fenced block, in order."""
    for match in _FENCE.finditer((DOCS / document).read_text()):
        yield match[1].strip(), match[2]


def files(document: str) -> dict[str, str]:
    """The blocks whose first line is a comment with a file's name."""
    found = {}
    for _, content in fences(document):
        if (named := _FILE_NAME.match(content)) is not None:
            assert named[1] not in found, f"{named[1]} is shown twice"
            found[named[1]] = content
    return found


def steps(document: str, info: str) -> list[Step]:
    """The commands of all blocks of this kind."""
    found: list[Step] = []
    for kind, content in fences(document):
        for line in content.splitlines() if kind == info else ():
            if (prompt := _PROMPT.match(line)) is not None:
                found.append(Step(prompt[1], prompt[2], ""))
            else:
                last = found[-1]
                found[-1] = Step(last.host, last.command, f"{last.shown}\n{line}".strip())
    return found


def script(all_steps: list[Step], on_host: dict[str, str], ready: dict[str, str]) -> str:
    """A bash script of all steps, each one's output in `N.out`, `N.err` and exit code in `N.rc`.

    `on_host` gives each host's folder and what to put before a command there. A command that begins as a key of `ready`
    runs in the background, until the script ends; the next one begins once `ready`'s command succeeds.
    """
    lines = ["trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", 'results="$PWD/results"', "mkdir -p $results"]
    for number, step in enumerate(all_steps):
        before = on_host.get(step.host, "")
        to = f'>"$results/{number}.out" 2>"$results/{number}.err"'
        wait = next((command for key, command in ready.items() if step.command.startswith(key)), None)
        run = f"{before} bash -c {shlex.quote(step.command)}" if before else step.command
        if wait is None:
            lines.append(f'{{ {run}\n}} {to}; rc=$?; echo $rc >"$results/{number}.rc"; (exit $rc)')
        else:
            lines.append(f'{run} {to} &\necho 0 >"$results/{number}.rc"')
            if wait:
                lines.append(f"for try in $(seq 1000); do {wait} >/dev/null 2>&1 && break; sleep 0.1; done")
    return "\n".join(lines) + "\n"


def tables(document: str) -> list[list[list[str]]]:
    """Every table: rows of cells, the header first, without the line below it."""
    found: list[list[list[str]]] = []
    inside = False
    for line in (DOCS / document).read_text().splitlines():
        if line.startswith("|"):
            cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not inside:
                found.append([])
            if not all(set(cell) <= set("-:") for cell in cells):
                found[-1].append(cells)
        inside = line.startswith("|")
    return found
