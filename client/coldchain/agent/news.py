"""Waiting until a server says that it has something new, in place of asking again and again.

One request that the server holds until there is news or its time is over (``GET /v1/wait``, which says what timestamp the endpoint has
and nothing of who it is). Whoever is told then polls as ever: what a server says here is believed for nothing else. Worked example, a
wait of a quarter of an hour::

    GET /v1/wait?tag=5c1f…&seconds=240      304 after four minutes     nothing new
    GET /v1/wait?tag=5c1f…&seconds=240      the connection breaks      the server was started anew
    GET /v1/wait?tag=5c1f…&seconds=240      200 after two minutes      another timestamp, of a higher version: poll now

Sources are asked in the order of an update, each for four minutes at a time, which is less than most routers keep a silent connection.
One that is behind the endpoint has nothing to tell it and is passed over. One that could not be reached is asked again after a while.
Where none can make anybody wait (a plain web server, a directory), or enough clients wait already, the time goes by and the poll comes
at its end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from coldchain.agent.network import NetworkSettings, network_of
from coldchain.agent.second_opinion import newer
from coldchain.agent.told import Told
from coldchain.agent.transport import HttpSource, Traffic, computed_etag, open_sources
from coldchain.errors import ColdchainError, ResponseError, ThrottledError, TransportError
from coldchain.install import trusted
from coldchain.install.directory import ClientDirectory
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.source_health import SourceMemory, random_draw
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import parse_metadata

MOST_SECONDS: Final = 240
PAUSE_SECONDS: Final = 5.0
"""A server that answers sooner than it was asked to, such as one that ends, is not asked again at once."""

MOST_PAUSE_SECONDS: Final = 300.0
"""The longest pause after servers that could not be reached, which grows from the one above."""

Said = Literal["nothing", "lost", "cannot"]


@dataclass(frozen=True, slots=True)
class NewsSettings:
    """How to wait.

    Attributes:
        urls: instead of the configured ones; None for those.
        network: instead of the customer's section; None for that.
        told: what servers asked for, kept by the caller beyond this wait.
        draw: a number from 0 to below 1, at random.
        limits: bounds.
        doubted: URLs of sources that are not asked, because they told of news where there were none.
    """

    urls: Sequence[str] | None = None
    network: NetworkSettings | None = None
    told: Told = field(default_factory=Told)
    draw: Callable[[], float] = random_draw
    limits: Limits = LIMITS
    doubted: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """The timestamp that the endpoint has."""

    etag: str
    version: int


def known(directory: ClientDirectory, limits: Limits = LIMITS) -> Known | None:
    """The endpoint's timestamp; None when it has none that can be read.

    Raises:
        ColdchainError: the directory's configuration is not in order.
    """
    data = trusted.stored(directory, directory.config(), limits).get("timestamp.json")
    if data is None:
        return None
    try:
        return Known(computed_etag(hashlib.sha256(data).hexdigest()), parse_metadata(data, "timestamp", limits).version)
    except ColdchainError:
        return None


async def wait_for_news(directory: ClientDirectory, seconds: float, settings: NewsSettings | None = None) -> str | None:
    """Waits until a source says that it has a newer timestamp than the endpoint, at most ``seconds``.

    Takes no lock and writes nothing.

    Returns:
        The URL of the one that said so; None when none did. An endpoint that has no timestamp yet does not wait: any has news for it.

    Raises:
        ColdchainError: the directory's configuration or policy is not in order.
    """
    settings = settings or NewsSettings()
    config, limits = directory.config(), settings.limits
    have = known(directory, limits)
    network = settings.network or network_of(read_customer_policy(directory, limits))
    urls = SourceMemory(directory, datetime.now(UTC)).order(settings.urls or network.urls(config.urls))
    if have is None:
        return urls[0]
    clock = asyncio.get_running_loop().time
    end, pause = clock() + seconds, PAUSE_SECONDS
    async with open_sources(urls, Traffic(), limits, network, told=settings.told) as opened:
        sources = [one for one in opened if isinstance(one, HttpSource) and one.url not in settings.doubted]
        while (left := end - clock()) > 0:
            begun, asked = clock(), max(min(round(left), MOST_SECONDS), 1)
            said = await _ask(sources, have, asked, limits)
            if isinstance(said, HttpSource):
                return said.url
            if said == "cannot":
                await asyncio.sleep(max(end - clock(), 0.0))
            elif said == "lost" or clock() - begun < asked - 1:
                await asyncio.sleep(min(pause * (1.0 + settings.draw()) / 2.0, max(end - clock(), 0.0)))
            pause = min(pause * 2.0, MOST_PAUSE_SECONDS) if said == "lost" else PAUSE_SECONDS
    return None


async def _ask(sources: Sequence[HttpSource], have: Known, seconds: int, limits: Limits) -> HttpSource | Said:
    """The first source that has news, or what the first says that can tell; ``lost`` when one might that cannot be reached now."""
    found: Said = "cannot"
    for source in sources:
        try:
            answer = await source.wait(have.etag, seconds, limits.timestamp_bytes)
        except (ThrottledError, ResponseError):
            continue
        except TransportError:
            found = "lost"
            continue
        if answer.missing:
            continue
        if answer.data is None:
            return "nothing"
        if newer(answer.data, have.version, limits):
            return source
        found = "lost"  # it is behind, and may catch up
    return found
