"""What the comparison's page says of the systems and the settings, against the code."""

import re

from tests.docs.document import DOCS, tables
from tools.other_systems import contest, etcd, nats, redis
from tools.other_systems.kinds import KINDS, USUAL

TEXT = (DOCS / "PEERS.md").read_text()


def first_words(title: str) -> str:
    return re.split(r"[ ,]", title.replace("`", ""))[0]


def test_every_system_has_its_row() -> None:
    promised, measured = ([row[0] for row in rows[1:]] for rows in tables("PEERS.md"))
    titles = [first_words(KINDS[name].title) for name in USUAL]
    assert [first_words(row) for row in promised] == [first_words(row) for row in measured] == titles


def test_every_package_is_in_the_commands() -> None:
    commands = re.search(r"```\n(apt install .*?)```", TEXT, re.DOTALL)
    assert commands is not None
    for name in USUAL:
        for package in re.findall(r"apt install ([^;]+)", KINDS[name].install):
            assert set(package.split()) <= set(commands[1].split())


def test_the_settings_are_the_codes() -> None:
    *sizes, last = (f"{size:,}" for size in contest.SIZES)
    assert f"events of {', '.join(sizes)} and {last} bytes" in TEXT
    assert f"about {contest.SECONDS:g} s" in TEXT
    assert f"{2 * redis._BATCH:,} `XADD` on the way" in TEXT
    assert f"{nats._WINDOW:,} publications on the way" in TEXT
    assert f"{etcd._WINDOW:,} puts on the way" in TEXT
