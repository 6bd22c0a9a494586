"""Ctrl-C, or a handler's own KeyboardInterrupt? The first may come anywhere and only here; the second is an outcome."""

from __future__ import annotations

import dis
from typing import Final

_RAISE: Final = dis.opmap["RAISE_VARARGS"]


def on_purpose(interrupt: BaseException) -> bool:
    """Whether a `raise` in Python raised this, as it will on every replica; a signal interrupts other instructions."""
    trace = interrupt.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code.co_code
    return 0 <= trace.tb_lasti < len(code) and code[trace.tb_lasti] == _RAISE
