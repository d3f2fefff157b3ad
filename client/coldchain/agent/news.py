"""Waiting until a server says that it has something new, in place of asking again and again.

One request that the server holds until there is news or its time is over (``GET /v1/wait``, which says what timestamp the endpoint has
and nothing of who it is). Whoever is told then polls as ever: what a server says here is believed for nothing else. Worked example, a
wait of half an hour::

    GET /v1/wait?tag=5c1f…&seconds=600      304 after ten minutes      nothing new
    GET /v1/wait?tag=5c1f…&seconds=600      200 after three            news: poll now

Sources are asked in the order of an update. Where none of them can make anybody wait (a plain web server, a directory), or enough
clients wait already, the time goes by and the poll comes at its end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from coldchain.agent.network import NetworkSettings, network_of
from coldchain.agent.transport import HttpSource, Source, Traffic, computed_etag, open_sources
from coldchain.errors import TransportError
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.source_health import SourceMemory, random_draw
from coldchain.limits import LIMITS, Limits

MOST_SECONDS: Final = 600
PAUSE_SECONDS: Final = 5.0
"""A server that answers sooner than it was asked to, such as one that ends, is not asked again at once."""


@dataclass(frozen=True, slots=True)
class NewsSettings:
    """How to wait.

    Attributes:
        urls: instead of the configured ones; None for those.
        network: instead of the customer's section; None for that.
        draw: a number from 0 to below 1, at random.
        limits: bounds.
    """

    urls: Sequence[str] | None = None
    network: NetworkSettings | None = None
    draw: Callable[[], float] = random_draw
    limits: Limits = LIMITS


async def wait_for_news(directory: ClientDirectory, seconds: float, settings: NewsSettings | None = None) -> bool:
    """Waits until a source says that its timestamp is another than the endpoint's, at most ``seconds``.

    Takes no lock and writes nothing.

    Returns:
        Whether one said so. An endpoint that has no timestamp yet does not wait.

    Raises:
        ColdchainError: the directory's configuration or policy is not in order.
    """
    settings = settings or NewsSettings()
    config, limits = directory.config(), settings.limits
    timestamp = trusted.stored(directory, config, limits).get("timestamp.json")
    if timestamp is None:
        return True
    etag = computed_etag(hashlib.sha256(timestamp).hexdigest())
    network = settings.network or network_of(read_customer_policy(directory, limits))
    urls = SourceMemory(directory, datetime.now(UTC)).order(settings.urls or network.urls(config.urls))
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    async with open_sources(urls, Traffic(), limits, network) as sources:
        while (left := end - clock()) > 0:
            begun, asked = clock(), max(min(round(left), MOST_SECONDS), 1)
            said = await _ask(sources, etag, asked, limits)
            if said:
                return True
            if said is None:  # nobody lets us wait
                await asyncio.sleep(max(end - clock(), 0.0))
            elif clock() - begun < asked - 1:
                await asyncio.sleep(PAUSE_SECONDS * (1.0 + settings.draw()) / 2.0)
    return False


async def _ask(sources: Sequence[Source], etag: str, seconds: int, limits: Limits) -> bool | None:
    """Whether there is news, by the first source that can tell; None when none can."""
    for source in sources:
        if not isinstance(source, HttpSource):
            continue
        try:
            answer = await source.wait(etag, seconds, limits.timestamp_bytes)
        except TransportError:
            continue
        if not answer.missing:
            return answer.data is not None
    return None
