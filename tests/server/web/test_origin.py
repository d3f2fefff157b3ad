"""The origin's life: it starts, tells its figures to the loopback alone, and ends without breaking a download off."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from coldchain_server.web.connection_cap import Bounds, Connection, Connections
from coldchain_server.web.listening import tls_context
from coldchain_server.web.origin import Origin, running, serve
from tests.server.web.published import LARGE, LARGE_PATH, SMALL, Client, MemoryStorage, etag, serving, tree, until
from tests.server.web.test_connection_cap import HUGE_PATH, small_reader, with_a_huge_file

SIZE = 6 << 20


async def started(storage: MemoryStorage, stop: asyncio.Event, bounds: Bounds) -> tuple[asyncio.Task[None], Origin]:
    ready: asyncio.Future[Origin] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(storage, port=0, stop=stop, ready=ready.set_result, bounds=bounds))
    return task, await ready


async def test_downloads_in_progress_end_whole_after_the_stop_and_waiting_clients_are_let_go() -> None:
    stop = asyncio.Event()
    task, origin = await started(with_a_huge_file(), stop, Bounds(shutdown_seconds=60))
    idle = await Client.to(origin)
    await idle.get("/metadata/timestamp.json")
    loading = [await small_reader(origin) for _ in range(3)]
    for one in loading:
        one.send(f"/{HUGE_PATH}", f"Range: bytes=0-{SIZE - 1}")
        await one.reader.readuntil(b"\r\n\r\n")
    stop.set()
    assert await idle.closed() == b""
    with pytest.raises(OSError, match=r"."):
        await Client.to(origin)
    for one in loading:
        got = 0
        while data := await one.reader.read(1 << 16):
            got += len(data)
        assert got == SIZE
        one.writer.transport.abort()
    await task


async def test_what_is_written_and_not_yet_read_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small answer is out of the handler's hands while most of it is still in our own buffer."""
    opened = Connections.opened

    def narrow(self: Connections, connection: Connection) -> None:
        assert connection.transport is not None
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        opened(self, connection)

    monkeypatch.setattr(Connections, "opened", narrow)
    stop = asyncio.Event()
    body = b"x" * 60_000
    task, origin = await started(MemoryStorage({"metadata/1.root.json": body}), stop, Bounds(shutdown_seconds=60))
    async with await small_reader(origin) as slow:
        slow.send("/metadata/1.root.json")
        await until(lambda: origin.counters.value("response_bytes") == len(body))
        stop.set()
        await asyncio.sleep(0.1)
        got = b""
        while data := await slow.reader.read(1 << 16):
            got += data
    assert got.endswith(body)
    await task


async def test_a_client_that_does_not_take_its_answer_does_not_hold_the_end_back_for_ever() -> None:
    stop = asyncio.Event()
    task, origin = await started(with_a_huge_file(), stop, Bounds(shutdown_seconds=0.2))
    async with await small_reader(origin) as slow:
        slow.send(f"/{HUGE_PATH}")
        await slow.reader.readuntil(b"\r\n\r\n")
        stop.set()
        await task


async def test_figures_are_on_the_loopback_port_alone() -> None:
    async with serving(metrics_port=0) as (origin, client):
        await client.get("/metadata/timestamp.json", f"If-None-Match: {etag(SMALL)}")
        assert (await client.get("/metrics")).status == 404
        assert origin.metrics_port is not None
        metrics = Client(*await asyncio.open_connection("127.0.0.1", origin.metrics_port))
        async with metrics:
            answer = await metrics.get("/metrics")
            assert answer.fields["content-type"].startswith("text/plain; version=0.0.4")
            text = answer.body.decode()
        for line in ('coldchain_responses_total{kind="timestamp",status="304"} 1', "coldchain_connections 1"):
            assert line in text.splitlines()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_running() -> None:
    async with running(tree()) as origin:
        before = asyncio.all_tasks()
        with pytest.raises(OSError, match=r"."):
            async with running(tree(), port=origin.port):
                pytest.fail("two servers on one port")
        assert asyncio.all_tasks() == before


async def test_two_processes_may_share_a_port_so_that_one_takes_over_from_the_other() -> None:
    async with running(tree(), reuse_port=True) as second:
        async with running(tree(), port=second.port, reuse_port=True):
            pass
        async with await Client.to(second) as client:
            assert (await client.get("/metadata/timestamp.json")).body == SMALL


async def test_no_line_of_the_log_names_a_client(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    storage = tree()
    bad = [
        b"\x16\x03\x01",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 5000,
        b"G" * 100,
        b"GET / HTTP/1.1\r\n\xff: a\r\n\r\n",
    ]
    async with running(storage, bounds=Bounds(idle_seconds=0.2, header_seconds=0.2)) as origin:
        for data in bad:
            sock = socket.socket()
            sock.bind(("127.0.0.9", 0))
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", origin.port))
            async with Client(*await asyncio.open_connection(sock=sock)) as client:
                client.writer.write(data)
                await client.closed()
        storage.broken = True
        async with await Client.to(origin, local_addr=("127.0.0.9", 0)) as client:
            assert (await client.get("/metadata/timestamp.json", "X-Forwarded-For: 198.51.100.77")).status == 503
    text = caplog.text + repr([record.__dict__ for record in caplog.records])
    assert "the storage refused" in text
    assert "127.0.0.9" not in text
    assert "198.51.100.77" not in text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    try:
        subprocess.run(
            [*words, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("the openssl program is not here to make a certificate with")
    return cert, key


async def test_the_same_over_tls_and_a_handshake_that_never_ends_is_dropped(certificate: tuple[Path, Path]) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    bounds = Bounds(handshake_seconds=0.3, connections=3)
    async with running(tree(), tls=tls_context(*certificate), bounds=bounds) as origin:
        assert origin.url.startswith("https://127.0.0.1:")
        silent = [await Client.to(origin) for _ in range(3)]  # as many as there is room for
        for one in silent:
            assert await one.closed() == b""
        async with Client(
            *await asyncio.open_connection("127.0.0.1", origin.port, ssl=context, limit=4 << 20)
        ) as client:
            assert (await client.get(f"/{LARGE_PATH}")).body == LARGE
            answer = await client.get("/metadata/timestamp.json", f"If-None-Match: {etag(SMALL)}")
            assert answer.status == 304


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_old_tls_is_not_spoken(certificate: tuple[Path, Path], version: str) -> None:
    assert tls_context(*certificate).minimum_version == ssl.TLSVersion.TLSv1_2
