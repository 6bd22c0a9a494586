"""Every exception of mcast's own, and what each says about the call that failed.

Errors carry fields as well as words: a program reads the fields, an operator the message. The message says what
happened, why it is likely, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcast.client.receipts import Receipt


class Error(Exception):
    """Base of everything mcast raises on purpose."""


class ConfigError(Error):
    """A config, key file or flag that cannot be used; names the file if there is one, field, value and fix (exit 2)."""

    def __init__(self, field: str, value: object, problem: str, fix: str, file: str | None = None) -> None:
        missing = value is None and field.startswith("--")
        shown = f"{field} is missing" if missing else f"{field} = {value!r}"
        super().__init__(f"{f'{file}: ' if file else ''}{shown}: {problem}; {fix}")
        self.field = field
        self.value = value
        self.problem = problem
        self.fix = fix
        self.file = file

    def with_file(self, file: object) -> ConfigError:
        """The same, with the file that it was found in."""
        return ConfigError(self.field, self.value, self.problem, self.fix, str(file))


class EnvironmentProblem(Error):
    """The machine refuses: a port in use, a missing interface, a locked directory, a full disk (exit 4)."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}; {remedy}")
        self.what = what
        self.remedy = remedy


class DecodeError(Error):
    """Bytes from outside that are not what they claim to be. The only error a decoder raises."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class NewerFormat(DecodeError):
    """A file that a later version wrote, and knows how to read."""


class NotSent(Error):
    """The command certainly did not happen: no node took it before the deadline (exit 3)."""


class Refused(Error):
    """The command or query certainly did not happen: a node refused it, and says why.

    `index`, if known, is which of many commands it was, from 0.
    """

    def __init__(self, reason: str, try_node: str | None = None, index: int | None = None) -> None:
        super().__init__(reason if index is None else f"command {index}: {reason}")
        self.reason = reason
        self.try_node = try_node
        self.index = index


class Unknown(Error):
    """The command may or may not have happened: its outcome did not arrive before the deadline.

    `receipts` holds what is known of a batch, one item a command, None where unknown. `Client.resolve` asks again under
    the same request numbers, by `handle`; that is None when nobody can tell any more.
    """

    def __init__(self, message: str, receipts: Sequence[Receipt | None] = (), handle: object | None = None) -> None:
        super().__init__(message)
        self.receipts = receipts
        self.handle = handle


class QueryFailed(Error):
    """A query's handler raised: `rejected` when on purpose, else the text is only the exception's type name."""

    def __init__(self, text: str, rejected: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.rejected = rejected


class NotYet(Error):
    """The replica has not reached the asked-for event yet; `try_node`, if known, or a moment later, will do."""

    def __init__(self, message: str, try_node: str | None = None) -> None:
        super().__init__(message)
        self.try_node = try_node


class Gone(Error):
    """What was asked for lies before the oldest event still kept here."""

    def __init__(self, message: str, low_water: int) -> None:
        super().__init__(message)
        self.low_water = low_water


class Rejected(Exception):
    """Raised by a state machine's handler to refuse a command; recorded as its outcome on every replica."""


class CorruptionError(Error):
    """A journal or meta file that proves damaged where nothing but a broken disk explains it."""


class InUse(EnvironmentProblem):
    """Another process has the data directory."""


class NetworkMissing(EnvironmentProblem):
    """Something of the network that a node needs is not there: an address, an interface, a resolver. It may come."""


class DiskFull(EnvironmentProblem):
    """No room for more events; what was written before stays good, and writing may succeed later."""


class DiskFailed(EnvironmentProblem):
    """The disk refused a write or a sync: nothing more is written until the node is started again."""


class Halted(Error):
    """A safety rule was found broken; the node stops rather than guess."""
