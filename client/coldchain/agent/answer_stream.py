"""An answer of a server that is read as it comes, with pauses in between: the beginning first, then perhaps the rest.

The bounds are those of a download: a minute, and a second more for each 8 KiB that has come (or the customer's own minimum speed), and
never faster than the customer wants. Only the time spent reading counts, since what the reader does in between is his business::

    read(29)          0.1 s      of 60 s
    … the reader asks other servers, for 40 s …
    read(1 MiB)       12 s       12.1 s of 188 s

Closing it early costs the connection; what the server had sent by then is not looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from coldchain.agent.allowance import Allowance
from coldchain.errors import TransportError
from coldchain.limits import Limits

if TYPE_CHECKING:
    import aiohttp


class Counter(Protocol):
    """Counts the bytes of bodies that came."""

    bytes: int


class AnswerStream:
    """See the module.

    Args:
        name: for messages.
        response: the answer, whose header lines have come and are in order.
        length: of the whole file, as announced; None when it was not. The answer may be the beginning of it.
        explained: puts what the library says into our words; told how many seconds there were.
        traffic: counts.
        allowance: what may still be received.
        limits: bounds, the customer's own among them.
        most_bytes_per_second: the customer's; 0 for no such bound.
    """

    def __init__(
        self,
        name: str,
        response: aiohttp.ClientResponse,
        length: int | None,
        explained: Callable[[Callable[[], float]], AbstractContextManager[None]],
        traffic: Counter,
        allowance: Allowance,
        limits: Limits,
        most_bytes_per_second: int,
    ) -> None:
        self.name = name
        self.length = length
        self.allowance = allowance
        self._response, self._explained, self._traffic, self._limits = response, explained, traffic, limits
        self._rate = most_bytes_per_second
        self._came, self._spent = 0, 0.0

    @property
    def whole(self) -> bool:
        """Whether the answer is the whole file."""
        return self._response.content_length in (None, self.length)

    async def read(self, most: int, *, metadata: bool = False) -> bytes:
        """What has come, at least a byte and at most so many; nothing at the end.

        Args:
            most: at least 1.
            metadata: what is read counts as metadata in the customer's caps.

        Raises:
            TransportError: the connection broke, or was too slow.
            AllowanceError: the customer's caps are reached.
        """
        clock, limits = asyncio.get_running_loop().time, self._limits
        begun = clock()
        allowed = limits.download_floor_seconds + self._came / limits.download_min_bytes_per_second
        with self._explained(lambda: allowed):
            async with asyncio.timeout(max(allowed - self._spent, 0.0)):
                data = await self._response.content.read(most)
        self._came += len(data)
        self._spent += clock() - begun
        self._traffic.bytes += len(data)
        self.allowance.take(len(data), metadata=metadata)
        ahead = self._came / self._rate - self._spent if self._rate else 0.0
        if ahead > 0:
            await asyncio.sleep(ahead)
            self._spent += ahead
        return data

    async def exactly(self, count: int) -> bytes:
        """So many bytes of metadata.

        Raises:
            TransportError: it ended before, or as :meth:`read`.
        """
        out = bytearray()
        while len(out) < count:
            data = await self.read(count - len(out), metadata=True)
            if not data:
                raise TransportError(f"{self.name}: ended after {len(out)} of {count} bytes")
            out += data
        return bytes(out)

    def close(self) -> None:
        """Reads no further."""
        self._response.close()
