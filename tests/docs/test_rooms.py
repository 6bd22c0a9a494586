"""The maps of the rooms in ARCHITECTURE name every module of theirs."""

import re

import pytest

from tests.docs.document import DOCS
from tests.docs.names import ROOT, paths

OTHERS = (
    "mcast", "mcast/wire", "mcast/machine", "mcast/config", "mcast/storage", "mcast/seal", "mcast/net",
    "mcast/client", "mcast/sim", "mcast/history", "mcast/analysis", "mcast/testing", "mcast/lab",
    "mcast/scenario", "mcast/bench", "mcast/demo", "mcast/cli", "mcast/cli/bench",
)  # fmt: skip
MAPS = {
    "Inside the protocol": ("mcast/protocol", "mcast/protocol/repair"),
    "Inside the node": ("mcast/node", "mcast/node/gateway"),
    "Map of the other rooms": OTHERS,
}


@pytest.mark.parametrize("heading", MAPS)
def test_a_map_names_each_module_of_its_rooms_once(heading: str) -> None:
    section = (DOCS / "ARCHITECTURE.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    there = [path for room in MAPS[heading] for path in (ROOT / room).glob("*.py") if path.name != "__init__.py"]
    cells = re.findall(r"^\| (`[^|]+)\|", section, re.MULTILINE)
    assert sorted(paths(" ".join(cells))) == sorted(str(path.relative_to(ROOT)) for path in there)
