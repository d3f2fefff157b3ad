"""Real proxies on sockets: HTTP (absolute request lines and CONNECT) and SOCKS5, with and without a login; and a certificate authority.

The proxies look names up by themselves: ``*.test`` is this machine, as no resolver would say.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from tests.client.agent.publisher import Edge

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
USER, PASSWORD = "fleet", "pass word:€"
SECRETS = ("pass", base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())


@dataclass
class ProxyServer:
    """``asked`` holds (method or address kind, host, port) of every request, ``fields`` what came with it."""

    login: tuple[str, str] | None = None
    answer: bytes | None = None
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    fields: list[Mapping[str, str]] = field(default_factory=list)
    port: int = 0

    async def http(self, reader: Reader, writer: Writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        assert parts.hostname is not None
        self.asked.append((method, parts.hostname, parts.port or 80))
        self.fields.append(fields)
        if self.answer is not None:
            writer.write(self.answer)
            return
        if self.login is not None:
            wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            if fields.get("proxy-authorization") != wanted:
                writer.write(
                    b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n"
                )
                return
        back, forth = await asyncio.open_connection(_address(parts.hostname), parts.port or 80)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            kept = [line for line in lines if not line.lower().startswith("proxy-")]
            path = target.partition(parts.netloc)[2]
            forth.write("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
        await _both(reader, writer, back, forth)

    async def socks(self, reader: Reader, writer: Writer) -> None:
        if self.answer is not None:
            await reader.read(1)
            writer.write(self.answer)
            return
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        assert version == 5
        method = 2 if self.login else 0
        if method not in methods:
            writer.write(b"\x05\xff")
            return
        writer.write(bytes([5, method]))
        if self.login is not None:
            one, length = await reader.readexactly(2)
            user = (await reader.readexactly(length)).decode()
            password = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
            assert one == 1
            if (user, password) != self.login:
                writer.write(b"\x01\x01")
                return
            writer.write(b"\x01\x00")
        _, command, _, kind = await reader.readexactly(4)
        assert command == 1
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            packed = await reader.readexactly(4 if kind == 1 else 16)
            host = ".".join(map(str, packed)) if kind == 1 else "::1"
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(("name" if kind == 3 else "address", host, port))
        try:
            back, forth = await asyncio.open_connection(_address(host), port)
        except OSError:
            writer.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await _both(reader, writer, back, forth)


def _address(host: str) -> str:
    return "127.0.0.1" if host.endswith(".test") else host


async def _both(reader: Reader, writer: Writer, back: Reader, forth: Writer) -> None:
    """Passes bytes on until one side ends."""

    async def pump(source: Reader, sink: Writer) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    pumps = [asyncio.create_task(pump(reader, forth)), asyncio.create_task(pump(back, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        forth.close()
        for one in pumps:
            one.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


@contextlib.asynccontextmanager
async def proxying(
    kind: str, login: tuple[str, str] | None = None, answer: bytes | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ProxyServer]:
    """A proxy of the kind http or socks. ``answer`` is all it ever says; ``tls`` is for the way to it."""
    proxy = ProxyServer(login, answer)
    serve = proxy.http if kind == "http" else proxy.socks
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0, ssl=tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving_tls(edge: Edge, context: ssl.SSLContext) -> AsyncIterator[int]:
    """The edge over TLS; yields its port."""
    app = web.Application()
    app.router.add_get("/{path:.*}", edge.handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own. Each name is the path of a PEM file below ``folder``."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def server(self, *, asks_for_certificates: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.path("server.pem"), self.path("server.key"))
        if asks_for_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.path("ca.pem"))
        return context


def make_authority(folder: Path) -> Authority:
    """With a server's certificate for origin.test and 127.0.0.1, a client's, and a client's key with a password."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl program is not here to make certificates with")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "3", "-nodes")
    ca_only = ("-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign")
    for name in ("ca", "other"):
        run(*new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN=test {name}", *ca_only)
    for name, extra in (
        ("server", "subjectAltName=DNS:origin.test,DNS:proxy.test,IP:127.0.0.1"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        leaf = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=CA:false", "-addext", extra)
        run(*new, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *leaf)
    run("ec", "-in", "client.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
    return Authority(folder)
