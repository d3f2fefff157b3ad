"""``coldchain-server serve`` as a process of its own, and its re-signing on a schedule of our own making."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coldchain.agent.update import update
from coldchain.errors import KeyringError, StateError, StorageError
from coldchain.install.directory import ClientDirectory
from coldchain_server import serve
from coldchain_server.founding import Founding, found
from coldchain_server.home import DEFAULT_SETTINGS, Home
from coldchain_server.signing.key_files import DEMO
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import LIVES, check_as_client, load_state, now_utc
from coldchain_server.web.origin import running
from tests.server.web.published import Client, until
from tests.system.histories import regions_toml

PASSPHRASE = "a passphrase of the test"
PROGRAM = Path(sys.executable).parent / "coldchain-server"
TIMESTAMP = "metadata/timestamp.json"
SIZE = 48 << 20
HUGE_PATH = "targets/us/stable/" + "00" * 32 + ".full.ccd"


async def home_of(directory: Path, ago: timedelta = timedelta(0)) -> tuple[Home, Keyring]:
    """An origin founded some time ago, whose server has not run since."""
    founding = Founding(DEFAULT_SETTINGS, regions_toml(["us", "jp"]), lambda: PASSPHRASE, DEMO)
    home = await found(directory, founding, now=now_utc() - ago)
    return home, Keyring(home.keys, founding.passphrase)


@dataclass
class Process:
    """A running server: where it listens, and the lines of its log."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: bytes = b""
    reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw += line
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))

    def said(self, message: str) -> dict[str, Any] | None:
        return next((line for line in self.lines if line["message"] == message), None)

    @property
    def port(self) -> int:
        line = self.said("listening")
        assert line is not None
        return int(line["url"].rsplit(":", 1)[1])

    async def connect(self, **options: Any) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=4 << 20, **options))

    async def get(self, target: str, *fields: str) -> tuple[int, bytes]:
        async with await self.connect() as client:
            answer = await client.get(target, *fields)
            return answer.status, answer.body

    async def end(self, by: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(by)
        return await self.ended()

    async def ended(self) -> int:
        code = await self.process.wait()
        assert self.reading is not None
        await self.reading
        return code


@contextlib.asynccontextmanager
async def serving(home: Path, *words: str, passphrase: str = PASSPHRASE) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "serve", home, "--port", "0", *words,
        env=dict(os.environ, COLDCHAIN_PASSPHRASE=passphrase),
        stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    found = Process(process)
    found.reading = asyncio.create_task(found.read())
    try:
        await until(lambda: found.said("listening") is not None or process.returncode is not None)
        yield found
    finally:
        if process.returncode is None:
            process.kill()
            await found.ended()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_downloads_end_and_then_the_process_with_zero(by: signal.Signals, tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin")
    await home.storage.put(HUGE_PATH, bytes(SIZE))
    async with serving(home.directory, "--metrics-port", "0") as server:
        idle = await server.connect(local_addr=("127.0.0.9", 0))
        assert (await idle.get("/healthz")).status == 200
        loading = await server.connect(local_addr=("127.0.0.9", 0))
        loading.send(f"/{HUGE_PATH}", "X-Forwarded-For: 198.51.100.77")
        await loading.reader.readuntil(b"\r\n\r\n")
        server.process.send_signal(by)
        assert await idle.closed() == b""
        with pytest.raises(OSError, match=r"."):
            await server.connect()
        assert len(await loading.reader.readexactly(SIZE)) == SIZE
        loading.writer.transport.abort()
        assert await server.ended() == 0
    assert len(server.lines) == server.raw.count(b"\n"), server.raw  # every line is JSON
    assert {"time", "level", "logger", "message"} <= set(server.lines[0])
    assert server.lines[-1]["message"] == "stopped"
    for address in (b"127.0.0.9", b"198.51.100.77"):
        assert address not in server.raw


async def test_an_endpoint_polls_the_process_within_180_bytes(tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin")
    async with serving(home.directory, "--metrics-port", "0") as server:
        assert (await server.get("/readyz"))[0] == 200
        async with await server.connect() as client:
            etag = (await client.get(f"/{TIMESTAMP}")).fields["etag"]
            poll = await client.get(f"/{TIMESTAMP}", f"If-None-Match: {etag}")
            assert (poll.status, poll.bytes_down <= 180) == (304, True), poll
        listening = server.said("listening")
        assert listening is not None
        metrics = Client(*await asyncio.open_connection("127.0.0.1", listening["metrics_port"]))
        async with metrics:
            assert b'responses_total{kind="timestamp",status="304"} 1' in (await metrics.get("/metrics")).body
        assert await server.end() == 0


async def test_an_expired_timestamp_is_signed_anew_at_once_and_not_ready_where_nobody_may(tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin", LIVES["timestamp"] + timedelta(hours=1))
    async with serving(home.directory, "--no-sign") as server:
        status, page = await server.get("/readyz")
        assert (status, json.loads(page)["reasons"][0][:21]) == (503, "the timestamp expired")
        assert (await server.get("/healthz"))[0] == 200
        assert await server.end() == 0
    async with serving(home.directory) as server:
        await until(lambda: server.said("signed anew") is not None)
        assert (await server.get("/readyz"))[0] == 200
        assert json.loads((await server.get(f"/{TIMESTAMP}"))[1])["signed"]["version"] == 2
        assert await server.end() == 0


async def test_two_servers_of_one_home_sign_once_and_both_serve_it(tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin", timedelta(hours=5))
    async with serving(home.directory) as one, serving(home.directory) as two:
        await until(lambda: one.said("signed anew") is not None or two.said("signed anew") is not None)
        versions = {json.loads((await server.get(f"/{TIMESTAMP}"))[1])["signed"]["version"] for server in (one, two)}
        assert versions == {2}
        assert [await one.end(), await two.end()] == [0, 0]
    said = [line["roles"] for server in (one, two) for line in server.lines if line["message"] == "signed anew"]
    assert said == ["timestamp"]


async def test_a_second_server_on_the_same_port_says_so_and_the_first_goes_on(tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin")
    async with serving(home.directory) as one:
        async with serving(home.directory, "--port", str(one.port)) as two:
            assert await two.ended() == StorageError.exit_code
        assert f"cannot serve on 127.0.0.1:{one.port}".encode() in two.raw
        assert b"--port" in two.raw
        assert b"Traceback" not in two.raw
        assert (await one.get("/readyz"))[0] == 200


async def test_what_must_be_there_at_the_start(tmp_path: Path) -> None:
    home, _ = await home_of(tmp_path / "origin")
    (tmp_path / "empty").mkdir()
    (home.keys / "timestamp.json").rename(tmp_path / "timestamp.json")
    for directory, code, words in (
        (tmp_path / "empty", StateError.exit_code, b"is not an origin"),
        (home.directory, KeyringError.exit_code, b"role timestamp needs 1 keys, 0 are here"),
    ):
        async with serving(directory) as server:
            assert await server.ended() == code
        assert words in server.raw
        assert b"Traceback" not in server.raw
    async with serving(home.directory, "--no-sign") as server:
        assert (await server.get("/readyz"))[0] == 200
        assert await server.end() == 0


async def test_the_schedule_keeps_every_moment_valid_for_weeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, keyring = await home_of(tmp_path / "origin")
    begin = now_utc()
    now = [begin]
    monkeypatch.setattr(serve, "now_utc", lambda: now[0])
    every = home.settings().timestamp_hours * 3600.0
    signed: list[tuple[datetime, list[str]]] = []
    for hours in range(0, 24 * 16, 3):
        now[0] = begin + timedelta(hours=hours)
        roles = await serve.renew_once(home, keyring, every)
        assert await serve.renew_once(home, keyring, every) == []  # nothing is due twice
        signed += [(now[0], roles)] if roles else []
        state = await load_state(home.storage)
        await check_as_client(home.storage, {}, list(state.delegated), now[0])  # a client of this hour accepts it
    gaps = {after - before for (before, _), (after, _) in itertools.pairwise(signed)}
    assert max(gaps) == timedelta(hours=6)  # due after 4 hours, looked at every 3
    assert sum("snapshot" in roles for _, roles in signed) == 2  # at half of its fortnight
    assert all(roles[-1] == "timestamp" for _, roles in signed)


async def test_a_publisher_at_work_is_not_waited_for(tmp_path: Path) -> None:
    home, keyring = await home_of(tmp_path / "origin", timedelta(hours=5))
    async with home.catalogue() as catalogue:
        async with catalogue.publisher():
            assert await serve.renew_once(home, keyring, 3600) == []
        assert await serve.renew_once(home, keyring, 3600) == ["timestamp"]


async def test_a_key_that_goes_missing_is_a_warning_and_its_return_is_enough(tmp_path: Path) -> None:
    home, keyring = await home_of(tmp_path / "origin", timedelta(hours=5))
    before = await home.storage.get(TIMESTAMP)
    away = tmp_path / "timestamp.json"
    (home.keys / "timestamp.json").rename(away)

    async def keep_fresh() -> None:
        await serve.keep_renewing(home, keyring, 3600, look_seconds=0.01)

    async with running(home.storage, background=[keep_fresh]) as origin, await Client.to(origin) as client:
        page: dict[str, Any] = {}
        while not page.get("warnings"):
            answer = await client.get("/readyz")
            page = json.loads(answer.body)
            assert (answer.status, page["ready"]) == (200, True)
        assert page["warnings"][0].startswith("keep_fresh is failing: KeyringError")
        assert (await client.get(f"/{TIMESTAMP}")).body == before
        away.rename(home.keys / "timestamp.json")
        while (await client.get(f"/{TIMESTAMP}")).body == before:  # the asking itself lets the job run
            assert (await client.get("/readyz")).status == 200


async def test_an_endpoint_follows_the_process(tmp_path: Path) -> None:
    """The reference client against the real program: no release yet is told as such, never as an error of the wire."""
    from coldchain import cli
    from coldchain.errors import NotPublishedError

    home, _ = await home_of(tmp_path / "origin")
    async with serving(home.directory) as server:
        words = ["init", str(tmp_path / "endpoint"), "--root", str(home.directory / "root.json"), "--region", "us"]
        assert cli.run([*words, "--url", f"http://127.0.0.1:{server.port}"]) == 0
        with pytest.raises(NotPublishedError):
            await update(ClientDirectory(tmp_path / "endpoint"))
        assert await server.end() == 0
