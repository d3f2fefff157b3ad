"""``coldchain-server edge`` as a process of its own: no keys, ends in good order, keeps what it has, and is killed at any time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from coldchain.errors import NotInstalledError, StaleError, StorageError, UsageError
from coldchain_server.commands.edge import alone
from coldchain_server.edge.freshness import Freshness
from coldchain_server.signing.roles import now_utc
from coldchain_server.web.origin import running
from tests.client.agent.publisher import FIRST, SECOND, run
from tests.server import origins
from tests.server.edge.edges import Place, edge, page, requests, serves, url_of
from tests.server.test_serve import Process
from tests.server.web.published import Client, until

TIMESTAMP = "/metadata/timestamp.json"
KEYS = ("signing", "release", "log", "catalogue", "founding", "home", "feeds", "assembly", "deltas", "witness")
"""Rooms that know keys, or that know who does."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.publish(1, FIRST)
    return made


def loaded(*words: str) -> set[str]:
    """The modules that the program has loaded when the command ends."""
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\n' + '\\n'.join(sys.modules), file=sys.stderr))\n"
        f"sys.argv = ['coldchain-server', *{words!r}]\n"
        "from coldchain_server.program import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    return set(done.stderr.splitlines())


def test_its_process_loads_no_room_that_knows_keys(place: Place) -> None:
    taken = "127.0.0.1:9"  # nothing answers there, and the port to listen on is taken: it gets as far as serving
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = str(listener.getsockname()[1])
        found = loaded("edge", str(place.path / "edge"), *place.words(f"http://{taken}"), "--port", port)
    assert "coldchain_server.edge.follow" in found
    assert "coldchain.mirror.pull" in found
    known = {name for name in found for room in KEYS if name.startswith(f"coldchain_server.{room}")}
    assert known == set()
    assert not {"tuf", "securesystemslib", "nacl.secret"} & found
    assert "coldchain_server.signing.keyring" in loaded("keys", "--help")


async def test_it_serves_follows_and_ends(place: Place) -> None:
    async with (
        place.origin() as origin,
        edge(place.path / "edge", *place.words(origin.url), "--metrics-port", "0") as one,
    ):
        await serves(one, 1)
        await until_ready(one)
        status, _ = await one.get(TIMESTAMP)
        assert status == 200
        async with await one.connect() as client:
            fields = (await client.get(TIMESTAMP)).fields
            assert int(fields["age"]) >= 0
            tag = fields["etag"].strip('"')
            waiter = await one.connect()
            waiter.send(f"/v1/wait?tag={tag}")
            place.publish(2, SECOND)
            told = await waiter.answer()
            assert told.status == 200
            assert int(told.fields["age"]) >= 0
            waiter.writer.transport.abort()
        # who is told finds all of it
        assert (await run(place.client(), url_of(one))).release == 2
        waiter = await one.connect()
        waiter.send(f"/v1/wait?tag={told.fields['etag'].strip(chr(34))}")
        await until_waiting(one)
        one.process.send_signal(signal.SIGTERM)
        assert (await waiter.answer()).status == 304
        waiter.writer.transport.abort()
        assert await one.ended() == 0
    assert one.lines[-1]["message"] == "stopped"


async def until_ready(one: Process) -> None:
    while (await page(one)).facts["warnings"]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def until_waiting(one: Process) -> None:
    """Until somebody waits, as its metrics tell."""
    listening = one.said("listening")
    assert listening is not None
    text = b""
    while b"coldchain_waiting 1\n" not in text:
        async with Client(*await asyncio.open_connection("127.0.0.1", listening["metrics_port"])) as client:
            text = (await client.get("/metrics")).body


async def test_killed_and_cut_off_it_serves_what_it_had_and_says_how_old(place: Place) -> None:
    directory = place.path / "edge"
    async with place.origin() as origin:
        async with edge(directory, *place.words(origin.url)) as one:
            await serves(one, 1)
            await until_ready(one)
            await one.end(signal.SIGKILL)
        sent = requests(origin), origin.counters.value("responses", kind="targets")
        async with edge(directory) as one:
            await serves(one, 1)
            await until_ready(one)
            await until(lambda: requests(origin) > sent[0])
        assert origin.counters.value("responses", kind="targets") == sent[1]  # a restart fetches nothing
    async with edge(directory) as one:  # the origin is gone
        await until(lambda: one.said("no news from any upstream") is not None)
        found = await page(one)
        assert found.status == 200
        assert found.facts["age_seconds"] >= 0
        assert found.facts["releases"] == [{"region": "us", "channel": "stable", "release": 1}]
        assert (await run(place.client(), url_of(one))).release == 1
        said = status(directory)
        assert said["stale"] is False
        assert said["upstreams"] == [{"url": origin.url, "late": None}]


def status(directory: Path, code: int = 0) -> dict[str, object]:
    done = CliRunner().invoke(alone, ["edge", str(directory), "--status", "--json"])
    assert done.exit_code == code, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_status_tells_a_person_and_a_program(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(place.mirror.path, NotInstalledError.exit_code)["error"] == "NotInstalledError"
    place.prepare(place.mirror, place.config)
    assert status(place.mirror.path, NotInstalledError.exit_code)["error"] == "NotInstalledError"
    freshness = Freshness(place.mirror, lambda: place.now)
    done = place.pull()
    freshness.pulled(done)
    freshness.confirm(place.now - timedelta(seconds=5))
    found = status(place.mirror.path)
    assert found["releases"] == [{"region": "us", "channel": "stable", "release": 1}]
    assert isinstance(found["age_seconds"], int)
    text = CliRunner().invoke(alone, ["edge", str(place.mirror.path), "--status"]).stdout
    assert text.startswith("us stable 1\n  known to be the newest ")
    monkeypatch.setattr("coldchain_server.commands.edge.utc_now", lambda: done.good_until)
    assert status(place.mirror.path, StaleError.exit_code)["stale"] is True


def test_what_must_be_said_the_first_time(place: Place) -> None:
    runner = CliRunner()
    done = runner.invoke(alone, ["edge", str(place.path / "edge"), "--region", "us", "--json"])
    assert done.exit_code == UsageError.exit_code
    assert "--upstream" in json.loads(done.stdout)["what"]
    assert not (place.path / "edge").exists()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = ["edge", str(place.path / "edge"), *place.words("http://127.0.0.1:9"), "--json"]
        done = runner.invoke(alone, [*words, "--port", str(taken.getsockname()[1])])
        assert done.exit_code == StorageError.exit_code
        assert "--port" in json.loads(done.stdout)["next"]


async def test_an_edge_that_is_there_before_the_first_release_waits_for_it(tmp_path: Path) -> None:
    home = await origins.make(tmp_path / "origin", now=now_utc())
    root = str(home.directory / "root.json")
    async with running(home.storage) as origin:
        words = ["--region", "us", "--root", root, "--upstream", origin.url]
        async with edge(tmp_path / "edge", *words) as process:
            await until(lambda: "coldchain_waiting 1\n" in origin.counters.prometheus())
            asked = requests(origin)
            assert asked <= 10, "asks again and again for what is not there"
            await origins.release(home, origins.FIRST, now=now_utc())
            await serves(process, 1)
            assert await process.end() == 0
