"""Drives the TUF client workflow (:mod:`coldchain.tuf.refresh`), which asks and does no I/O, from a source that takes its time.

::

    found = await drive(refresh(stored, now, roles), get, keep)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from coldchain.tuf.refresh import Fetch, Steps
from coldchain.tuf.trusted_set import TrustedSet


async def drive(
    steps: Steps, get: Callable[[Fetch], Awaitable[bytes | None]], keep: Callable[[str, bytes], None]
) -> TrustedSet:
    """What the workflow ends with.

    Args:
        steps: the workflow, not begun yet.
        get: the bytes of a file; None where there is none.
        keep: writes a verified file durably, by its name.

    Raises:
        ColdchainError: as the workflow, ``get`` and ``keep`` raise it.
    """
    data: bytes | None = None
    while True:
        try:
            step = steps.send(data)
        except StopIteration as done:
            found: TrustedSet = done.value
            return found
        data = None
        if isinstance(step, Fetch):
            data = await get(step)
        else:
            keep(step.name, step.data)
