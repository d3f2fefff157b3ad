"""Getting files from a server or from a directory, within bounds. What comes is not trusted here, only bounded.

A poll on the wire, 115 bytes up for a host like this one, and nothing that tells one endpoint from another::

    GET /metadata/timestamp.json HTTP/1.1
    Host: a.example
    If-None-Match: "5c1f0a9e33b07d12b6f0a1c2d3e4f506"

No Accept, Accept-Encoding or User-Agent; no cookies are kept; redirects are not followed; bodies are taken as they are (a
Content-Encoding is refused). Nothing is read past a file's bound plus what is needed to notice, and every file has one deadline
for all of it: 60 s, for downloads plus a second for each 8 KiB (or the customer's own minimum speed) that has come. So a drip is
given up after its first minute, however large the file.

By which way (proxy, certificates), how fast and how much is the customer's :class:`~coldchain.agent.network.NetworkSettings`; a
server that asked to be left alone is not asked before its time (:mod:`coldchain.agent.told`).

A download goes on where it stopped: ``Range: bytes=N-`` with ``If-Range`` naming the entity tag that an origin gives to
content of the wanted SHA-256. A server with other tags answers with the whole file, which is also right.

What an answer means::

    200, 206   the file, or its rest          429, 503      ThrottledError, with Retry-After
    304        not modified                   anything else ResponseError
    403, 404   there is none                  no answer     TransportError

Source: RFC 9110; The Update Framework specification 5.3.3 for "there is none".
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from coldchain.agent.allowance import Allowance
from coldchain.agent.answer_fields import beginning_of, check_encoding, check_range, patience, poll_seconds, seconds_of
from coldchain.agent.answer_stream import AnswerStream
from coldchain.agent.http_session import http_session
from coldchain.agent.network import NetworkSettings
from coldchain.agent.proxies import Proxy
from coldchain.agent.told import Told
from coldchain.errors import ResponseError, ThrottledError, TransportError
from coldchain.install.part import Part
from coldchain.limits import LIMITS, Limits

if TYPE_CHECKING:
    import aiohttp

BLOCK: Final = 1 << 18
_ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,120}"\Z')
_TIMESTAMP: Final = "metadata/timestamp.json"

Progress = Callable[[int, int], None]
"""Called with (bytes there, bytes in all)."""


@dataclass
class Traffic:
    """What a run cost: requests sent (files opened, for a directory) and bytes of bodies received."""

    requests: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A small file: ``data`` is None when it was not modified, or when there is none (``missing``).

    ``age``: for how many seconds a copy was not compared with the origin, as it says itself.
    """

    data: bytes | None
    missing: bool = False
    etag: str | None = None
    age: float = 0.0


class Source(Protocol):
    """One place that serves the published tree."""

    url: str

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        """A file of at most ``most`` bytes.

        Raises:
            TransportError: and its kinds, as the module says.
        """

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        """Completes ``part``, which may hold a beginning already, to the signed length and digest.

        Raises:
            TransportError: and its kinds; what came stays, so that the next try goes on from there.
            DigestError: the bytes are not the signed ones; they are removed.
        """


def computed_etag(sha256: str) -> str:
    """The entity tag that an origin gives to content with this digest."""
    return f'"{sha256[:32]}"'


@contextlib.asynccontextmanager
async def open_sources(
    urls: Sequence[str],
    traffic: Traffic,
    limits: Limits = LIMITS,
    network: NetworkSettings | None = None,
    *,
    told: Told | None = None,
    allowance: Allowance | None = None,
) -> AsyncIterator[list[Source]]:
    """The sources of these base URLs (as :func:`coldchain.install.directory.normal_url` writes them), until the block ends.

    Args:
        urls: in the order of the list that comes out.
        traffic: counts.
        limits: bounds.
        network: the customer's settings; None for the defaults and the environment's proxies.
        told: what servers asked for, kept by the caller beyond this block.
        allowance: what may still be received; None for no cap.

    Raises:
        UsageError: a server is named, and aiohttp is not installed; or a setting names a file or proxy that is none.
    """
    network = network or NetworkSettings()
    limits = network.limits(limits)
    manner = _Manner(limits, network, told or Told(), allowance or Allowance())
    async with contextlib.AsyncExitStack() as stack:
        sessions: dict[Proxy | None, aiohttp.ClientSession] = {}
        out: list[Source] = []
        for url in urls:
            if "://" not in url:
                out.append(DirectorySource(url, traffic))
                continue
            proxy = network.proxy_for(url)
            socks = proxy if proxy is not None and proxy.socks else None
            if socks not in sessions:
                sessions[socks] = await stack.enter_async_context(http_session(limits, network.context(), socks))
            out.append(HttpSource(url, sessions[socks], traffic, manner, proxy))
        yield out


@dataclass(frozen=True, slots=True)
class _Manner:
    """How servers are asked."""

    limits: Limits
    network: NetworkSettings
    told: Told
    allowance: Allowance


class HttpSource:
    """A server, directly or through ``proxy``."""

    def __init__(
        self, url: str, session: aiohttp.ClientSession, traffic: Traffic, manner: _Manner, proxy: Proxy | None
    ) -> None:
        self.url = url
        self._session, self._traffic, self._manner, self._proxy = session, traffic, manner, proxy
        self._limits = manner.limits

    @contextlib.asynccontextmanager
    async def _request(
        self, path: str, fields: dict[str, str], seconds: float, body: bytes | None = None
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, asyncio.Timeout]]:
        begun, deadline = asyncio.get_running_loop().time(), asyncio.timeout(seconds)
        with self._explained(path, lambda: (deadline.when() or begun) - begun):
            async with deadline, await self._ask(path, fields, body) as response:
                check_encoding(self.url, path, response)
                yield response, deadline

    async def _ask(self, path: str, fields: dict[str, str], body: bytes | None = None) -> aiohttp.ClientResponse:
        """Sends the request; the answer's header lines have come."""
        left = self._manner.told.wait(self.url)
        if left > 0:
            raise self._throttled("is too busy, and asked to be left alone", left)
        self._traffic.requests += 1
        fields, way = self._way(fields)
        method = "GET" if body is None else "POST"
        if body is not None:
            way |= {"data": body, "skip_auto_headers": ("Content-Type",)}
        return await self._session.request(method, f"{self.url}/{path}", headers=fields, allow_redirects=False, **way)

    @contextlib.contextmanager
    def _explained(self, path: str, allowed: Callable[[], float]) -> Iterator[None]:
        """What the library and the system say in our words. ``allowed``: how many seconds there were."""
        import aiohttp

        try:
            yield
        except aiohttp.ServerTimeoutError as error:
            raise TransportError(
                f"{self._where} cannot be reached: no connection within {self._limits.connect_seconds:g} seconds",
                todo="check the network and the URL, then run it again",
            ) from error
        except TimeoutError as error:
            raise TransportError(
                f"{self.url}/{path}: no whole answer within {round(allowed(), 1):g} seconds"
            ) from error
        except (aiohttp.ClientPayloadError, asyncio.IncompleteReadError) as error:
            raise TransportError(f"{self.url}/{path}: the connection broke off in the middle") from error
        except aiohttp.ClientHttpProxyError as error:
            raise self._refused_by_proxy(error) from None  # the library's error holds the login
        except aiohttp.ClientResponseError:
            said = f" (from the proxy {self._proxy.shown}, perhaps)" if self._proxy else ""
            raise ResponseError(f"{self.url}/{path}: an answer that is not HTTP{said}") from None  # as above
        except aiohttp.ClientProxyConnectionError as error:
            raise TransportError(
                f"{self._where} cannot be reached: {error.os_error.strerror or error.os_error}",
                todo="check the proxy and its login ([network] in policy.toml, or the environment)",
            ) from error
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # UnicodeError: a host like a..b
            raise TransportError(
                f"{self._where} cannot be reached: {error}", todo="check the network and the URL, then run it again"
            ) from error

    def _way(self, fields: dict[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
        """The request's fields and the library's arguments for the way it takes; the login is in neither's URL."""
        if self._proxy is None or self._proxy.socks:
            return fields, {}
        login = {"Proxy-Authorization": self._proxy.login.basic()} if self._proxy.login else {}
        if self.url.startswith("https:"):
            return fields, {"proxy": self._proxy.shown, "proxy_headers": login}
        return {**fields, **login}, {"proxy": self._proxy.shown}

    @property
    def _where(self) -> str:
        return f"{self.url} (by way of {self._proxy.shown})" if self._proxy else self.url

    def _throttled(self, what: str, seconds: float | None) -> ThrottledError:
        when = f" in {seconds:.0f} seconds" if seconds is not None else " later"
        return ThrottledError(f"{self.url} {what}", retry_after=seconds, todo=f"run it again{when}")

    def _refused_by_proxy(self, error: aiohttp.ClientHttpProxyError) -> TransportError:
        assert self._proxy is not None
        if error.status in (429, 503):
            return self._busy(f"cannot be reached: the proxy {self._proxy.shown} answers {error.status}", error.headers)
        words = "wants another login" if error.status == 407 else f"answers {error.status}"
        return TransportError(
            f"{self.url} cannot be reached: the proxy {self._proxy.shown} {words}",
            todo="check the proxy and its login ([network] in policy.toml, or the environment)",
        )

    def _busy(self, what: str, headers: Mapping[str, str] | None) -> ThrottledError:
        seconds = patience(headers or {})
        self._manner.told.busy(self.url, seconds)
        return self._throttled(what, seconds)

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        """See :class:`Source`."""
        fields = {"If-None-Match": etag} if etag else {}
        return await self._whole(path, fields, most, 0)

    async def wait(self, etag: str, seconds: int, most: int) -> Answer:
        """The timestamp as soon as it is another than the one with this tag; no data when ``seconds`` went by without.

        Args:
            etag: as :func:`computed_etag` makes it.
            seconds: 1 to 600.
            most: bytes of the timestamp.

        Raises:
            TransportError: and its kinds; ThrottledError when so many wait that polling is the better way. It does not
                keep anybody from that.
        """
        return await self._whole(f"v1/wait?tag={etag[1:-1]}&seconds={seconds}", {}, most, seconds)

    async def post(self, path: str, body: bytes, fields: Mapping[str, str], seconds: float) -> int:
        """Sends ``body``, with Host, its length and these fields and nothing else; returns the answer's status, whatever it is.

        What the answer holds besides is not read, and a server that is busy is not remembered for it.

        Raises:
            TransportError: no answer came.
        """
        self._manner.allowance.ask(metadata=True)
        async with self._request(path, dict(fields), seconds, body) as (response, _):
            return response.status

    async def _whole(self, path: str, fields: dict[str, str], most: int, wait: int) -> Answer:
        self._manner.allowance.ask(metadata=True)
        async with self._request(path, fields, self._limits.metadata_seconds + wait) as (response, _):
            if path == _TIMESTAMP and response.status in (200, 304):
                self._manner.told.poll_seconds = poll_seconds(response.headers)
            age = float(seconds_of(response.headers.get("Age")) or 0)
            if response.status == 304 and (wait or "If-None-Match" in fields):
                return Answer(None, age=age)
            if response.status in (403, 404):
                return Answer(None, missing=True)
            if wait and response.status == 503:
                raise self._throttled("lets no more clients wait", patience(response.headers))
            self._expect(path, response, (200,))
            if response.content_length is not None and response.content_length > most:
                raise ResponseError(f"{self.url}/{path}: {response.content_length} bytes announced, {most} allowed")
            data = bytearray()
            async for block in response.content.iter_any():
                data += block
                self._traffic.bytes += len(block)
                self._manner.allowance.take(len(block), metadata=True)
                if len(data) > most:
                    raise ResponseError(f"{self.url}/{path}: longer than the allowed {most} bytes")
            tag = response.headers.get("ETag", "")
            return Answer(bytes(data), etag=tag if _ETAG.match(tag) else None, age=age)

    async def stream(self, path: str, most: int = 0) -> AnswerStream | None:
        """A file, read as it comes; None when there is none. Whoever gets it closes it.

        Args:
            path: of the file.
            most: how much of its beginning is asked for; 0 for all. A server may send all of it nevertheless.

        Raises:
            TransportError: and its kinds, as the module says.
        """
        manner, limits = self._manner, self._limits
        manner.allowance.ask(metadata=True)
        with self._explained(path, lambda: limits.metadata_seconds):
            async with asyncio.timeout(limits.metadata_seconds):
                response = await self._ask(path, {"Range": f"bytes=0-{most - 1}"} if most else {})
        try:
            check_encoding(self.url, path, response)
            if response.status in (403, 404):
                response.close()
                return None
            self._expect(path, response, (200, 206) if most else (200,))
            length = response.content_length
            if response.status == 206:
                length = beginning_of(self.url, path, response.headers.get("Content-Range", ""), most)
        except BaseException:
            response.close()
            raise
        return AnswerStream(
            f"{self.url}/{path}",
            response,
            length,
            lambda allowed: self._explained(path, allowed),
            self._traffic,
            manner.allowance,
            limits,
            manner.network.most_bytes_per_second,
        )

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        """See :class:`Source`."""
        while (there := part.there()) < part.length:
            await self._go_on(path, part, there, progress)
        part.check()

    async def _go_on(self, path: str, part: Part, there: int, progress: Progress) -> None:
        """One request for what is missing. Returns when that came, or when it must be asked for from the beginning."""
        length = part.length
        self._manner.allowance.begin(length - there)
        fields = {"Range": f"bytes={there}-", "If-Range": computed_etag(part.sha256)} if there else {}
        floor, slowest = self._limits.download_floor_seconds, self._limits.download_min_bytes_per_second
        loop, came = asyncio.get_running_loop(), 0
        begun = loop.time()
        async with self._request(path, fields, floor) as (response, deadline):
            if there and response.status == 416:
                return part.remove()
            self._expect(path, response, (200, 206) if there else (200,))
            if response.status == 206:
                check_range(self.url, path, response.headers.get("Content-Range", ""), there, length)
            else:
                there = 0
            announced = response.content_length
            if announced is not None and announced != length - there:
                raise ResponseError(
                    f"{self.url}/{path}: {announced} bytes announced, {length - there} expected",
                    todo="the server is half published or altered; try again later, or another --url",
                )
            with part.append(there) as write:
                async for block in response.content.iter_chunked(BLOCK):
                    self._traffic.bytes += len(block)
                    there += len(block)
                    came += len(block)
                    if there > length:
                        raise ResponseError(f"{self.url}/{path}: longer than the signed {length} bytes")
                    write(block)
                    self._manner.allowance.take(len(block))
                    progress(there, length)
                    deadline.reschedule(begun + floor + came / slowest)
                    await self._not_faster(begun, came)
        if there < length:
            raise TransportError(f"{self.url}/{path}: ended after {there} of {length} bytes")
        return None

    async def _not_faster(self, begun: float, came: int) -> None:
        """Waits until ``came`` bytes are no more than the customer's most bytes per second since ``begun``."""
        rate = self._manner.network.most_bytes_per_second
        if rate:
            ahead = begun + came / rate - asyncio.get_running_loop().time()
            if ahead > 0:
                await asyncio.sleep(ahead)

    def _expect(self, path: str, response: aiohttp.ClientResponse, good: tuple[int, ...]) -> None:
        status = response.status
        if status in good:
            return
        if status in (429, 503):
            raise self._busy(f"answers {status}: too busy", response.headers)
        if status == 407 and self._proxy is not None:
            raise TransportError(
                f"{self.url} cannot be reached: the proxy {self._proxy.shown} wants another login",
                todo="check the proxy and its login ([network] in policy.toml, or the environment)",
            )
        redirect = " (redirects are not followed)" if 300 <= status < 400 else ""
        raise ResponseError(
            f"{self.url}/{path}: the server answers {status}{redirect}", todo="check the URL, or try another --url"
        )


@dataclass
class DirectorySource:
    """A copy of the published tree in a directory: a memory stick, a mounted mirror."""

    url: str
    traffic: Traffic = field(default_factory=Traffic)

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        """See :class:`Source`; a file with the tag's digest is not modified."""
        try:
            with self._open(path) as file:
                data = file.read(most + 1)
        except FileNotFoundError:
            return Answer(None, missing=True)
        except OSError as error:
            raise ResponseError(f"{self.url}/{path}: {error.strerror}") from error
        if len(data) > most:
            raise ResponseError(f"{self.url}/{path}: longer than the allowed {most} bytes")
        tag = computed_etag(hashlib.sha256(data).hexdigest())
        if tag == etag:
            return Answer(None)
        self.traffic.bytes += len(data)
        return Answer(data, etag=tag)

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        """See :class:`Source`."""
        there = part.there()
        try:
            with self._open(path) as old, part.append(there) as write:
                if os.fstat(old.fileno()).st_size != part.length:
                    raise ResponseError(f"{self.url}/{path}: its length is not the signed {part.length} bytes")
                old.seek(there)
                while there < part.length and (data := old.read(min(BLOCK, part.length - there))):
                    write(data)
                    there += len(data)
                    self.traffic.bytes += len(data)
                    progress(there, part.length)
        except OSError as error:
            raise ResponseError(f"{self.url}/{path}: {error.strerror}") from error
        if there < part.length:
            raise TransportError(f"{self.url}/{path}: ended after {there} of {part.length} bytes")
        part.check()

    def _open(self, path: str) -> BinaryIO:
        """A regular file; a FIFO or a device in its place does not block. Raises OSError for anything else."""
        self.traffic.requests += 1
        root = Path(self.url)
        if not root.is_dir():
            raise TransportError(f"{root}: {os.strerror(errno.ENOENT)}", todo="check that the directory is mounted")
        descriptor = os.open(root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.fdopen(descriptor, "rb")
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
