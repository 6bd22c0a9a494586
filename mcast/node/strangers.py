"""Another cluster on this one's group and port: harmless, but each receives all datagrams of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mcast.config import Config

if TYPE_CHECKING:
    from mcast.node.shell import Shell

LOOKS_KEPT: Final = 10  # without a datagram of its, before it counts as gone
_FOREIGN: Final = "foreign cluster"


class Strangers:
    """Notes datagrams of other clusters that reach this node."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._seen = 0
        self._quiet_looks = LOOKS_KEPT

    def look(self) -> dict[str, str]:
        """The findings, by their names; called once a second."""
        refused = self._shell.transport.refusals().get(_FOREIGN, 0)
        self._quiet_looks = 0 if refused > self._seen else self._quiet_looks + 1
        self._seen = refused
        if self._quiet_looks >= LOOKS_KEPT:
            return {}
        config = self._shell.config
        what = "another cluster uses this one's group and port"
        return {
            what: f"{what}: datagrams of one not named {config.name!r} come on {place(config)}; its name is not in "
            f"them, but `tcpdump -n dst host {config.group} and udp port {config.port + 1}` shows its machines "
            f"beside this cluster's; {change()}"
        }


def place(config: Config) -> str:
    """The group and ports to which multicast datagrams come, in words."""
    return f"group {config.group}, ports {config.port} and {config.port + 1}"


def change() -> str:
    """What to do about two clusters that meet."""
    return "give one of the two cluster files another group and port (mcast init draws them), and a name of its own"
