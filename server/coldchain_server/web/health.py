"""``/healthz``: the process lives. ``/readyz``: it has something good to serve. Nothing here says who asked.

Worked example of an origin that is not ready (503; 200 when there are no reasons)::

    {"ready": false, "reasons": ["the timestamp expired 2026-11-25T09:00:00Z"], "warnings": []}

A server of copies adds what it serves and how old that is (:class:`Copy`)::

    {"alive": true, "age_seconds": 12, "confirmed": "2026-06-01T09:05:00Z", …}

*Warnings* are for people and alarms and leave the answer at 200: an origin that cannot sign anew at the moment still serves a
good timestamp for hours, and taking it away from its endpoints would be the greater harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from aiohttp import hdrs, web

from coldchain.canonical import Object
from coldchain.errors import ColdchainError, StorageError
from coldchain.tuf.metadata import parse_metadata
from coldchain_server.storage.interface import Storage

Check = Callable[[], Awaitable[Iterable[str]]]
Clock = Callable[[], datetime]

TIMESTAMP: Final = "metadata/timestamp.json"
CHECK_SECONDS: Final = 5.0
_HEADERS: Final = {hdrs.CACHE_CONTROL: "no-store"}


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


class Copy(Protocol):
    """What a server knows of the age of what it serves, where that is a copy of another server's."""

    def age(self) -> int | None:
        """Seconds since it was known to be the newest; None when it never was."""

    def poll_seconds(self) -> int:
        """The timestamp's ``max-age``, from which clients take off its ``Age``; 0 for none."""

    def facts(self) -> Object:
        """For both pages."""

    async def expired(self) -> Iterable[str]:
        """Reasons for not being ready."""

    async def behind(self) -> Iterable[str]:
        """What a person should look at."""


UNKNOWN_AGE: Final = 30 * 86_400


def age_field(copy: Copy) -> str:
    """The timestamp's ``Age``; 30 days where nobody has said yet that it is the newest: no field would mean that it is."""
    age = copy.age()
    return str(UNKNOWN_AGE if age is None else age)


class Health:
    """The two pages.

    Args:
        storage: what is served.
        checks: more functions that return reasons for not being ready; they must not raise.
        warnings: functions that return what a person should look at, though all that is served is good.
        now: the clock that expiry is judged by.
        copy: what is known of the age of what is served, where that is a copy.
    """

    def __init__(
        self,
        storage: Storage,
        checks: Sequence[Check] = (),
        now: Clock = utc_now,
        warnings: Sequence[Check] = (),
        copy: Copy | None = None,
    ) -> None:
        self._storage = storage
        self._checks = [*checks, copy.expired] if copy is not None else checks
        self._now = now
        self._warnings = [*warnings, copy.behind] if copy is not None else warnings
        self._copy = copy

    def _facts(self) -> Object:
        return self._copy.facts() if self._copy is not None else {}

    async def healthz(self, request: web.Request) -> web.Response:
        """200 as long as the event loop turns."""
        return web.json_response({"alive": True, **self._facts()}, headers=_HEADERS)

    async def readyz(self, request: web.Request) -> web.Response:
        """200 or 503, with the reasons."""
        reasons = await self.reasons()
        warnings = [line for check in self._warnings for line in await check()]
        return web.json_response(
            {"ready": not reasons, "reasons": reasons, "warnings": warnings, **self._facts()},
            status=503 if reasons else 200,
            headers=_HEADERS,
        )

    async def reasons(self) -> list[str]:
        """Why nobody should be sent here; empty when all is well."""
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                reasons = await self._timestamp()
                for check in self._checks:
                    reasons += await check()
                return reasons
        except TimeoutError:
            return [f"the checks take longer than {CHECK_SECONDS:g} seconds"]

    async def _timestamp(self) -> list[str]:
        try:
            if await self._storage.stat(TIMESTAMP) is None:
                return ["no timestamp is published"]
            raw = await self._storage.get(TIMESTAMP)
        except StorageError:
            return ["the storage cannot be read"]
        try:
            expires = parse_metadata(raw, "timestamp").expires
        except ColdchainError:
            return ["the published timestamp is damaged"]
        if expires <= self._now():
            return [f"the timestamp expired {expires:%Y-%m-%dT%H:%M:%SZ}"]
        return []
