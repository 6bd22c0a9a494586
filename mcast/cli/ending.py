"""Ending in order what runs for long: SIGTERM as Ctrl-C, so that no process and no folder stays behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def until_stopped(work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns. SIGTERM cancels it, and then this raises CancelledError."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
