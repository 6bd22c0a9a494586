"""What is unprotected is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mcast.cli.caveats import caveats
from mcast.config import default_config, parse_config
from mcast.lab.processes import Processes
from tests.lan.commands import run

BARE = parse_config(default_config(Path("/")).encode(), Path("/lab.toml"))


def test_a_cluster_with_a_key_and_synced_disks_has_none() -> None:
    sealed = replace(BARE, key_file=Path("/lab.key"))
    assert caveats(sealed) == ""
    assert caveats(BARE) == "; unsealed"
    assert caveats(replace(sealed, sync="os")) == '; sync = "os" survives kill -9, not power loss'
    assert caveats(replace(BARE, sync="os")) == '; unsealed; sync = "os" survives kill -9, not power loss'


@pytest.mark.timeout(90)
async def test_every_command_that_talks_to_a_cluster_says_so_to_people_and_not_in_json() -> None:
    reported = '; unsealed; sync = "os" survives kill -9, not power loss'
    async with Processes(nodes=1, sync="os") as processes:
        folder = processes.path.parent
        for words in ("submit set k 1", "query get k", "status", "gaps", "tail --count 1", "fault --at n1 clear",
                      "handover --to n1"):  # fmt: skip
            done = await run(folder, *words.split())
            assert done.code == 0 and reported.removeprefix("; ") in done.out + done.err, done
        done = await run(folder, "query", "get", "k", "--json")
        assert (done.document["value"], done.err) == (1, "")
        log = processes.log("n1").read_text()
        assert "unsealed: anyone" in log and reported.rpartition("; ")[2] in log
