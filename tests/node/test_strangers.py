"""Another cluster on the same group and port: told as long as it lasts, with how to find its machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mcast.node.strangers import LOOKS_KEPT, Strangers


def test_another_cluster_is_told_with_how_to_find_it_and_what_to_change() -> None:
    refused: dict[str, int] = {}
    shell: Any = SimpleNamespace(
        config=SimpleNamespace(name="lab", group="239.1.2.3", port=7700),
        transport=SimpleNamespace(refusals=lambda: refused),
    )
    strangers = Strangers(shell)
    assert strangers.look() == {}
    refused["foreign cluster"] = 1
    (reported,) = strangers.look().values()
    assert "one not named 'lab' come on group 239.1.2.3, ports 7700 and 7701" in reported
    assert "tcpdump -n dst host 239.1.2.3 and udp port 7701" in reported and "another group and port" in reported
    for _ in range(LOOKS_KEPT - 1):
        assert strangers.look()
    assert strangers.look() == {}, "it has gone"
