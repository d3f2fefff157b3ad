"""A region's reports move to and fro on real programs while they come in, and whoever reads the log goes on as if nothing were."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from coldchain.cli import run
from coldchain_server.home import Home
from coldchain_server.reports import move as room
from coldchain_server.reports.moving import all_moving
from coldchain_server.signing.roles import now_utc
from tests.server import origins
from tests.server.memory import memory_folder
from tests.server.reports import residents
from tests.server.reports.residents import counted, everything
from tests.server.reports.sending import post, report
from tests.server.test_serve import PROGRAM, serving
from tests.server.web.published import until

REGIONS = origins.REGIONS.replace('"United States"\n', '"United States"\nresidency = "us"\n')


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as place:
        yield place


async def published(folder: Path) -> Home:
    """An origin with a release, which counts as many reports as come."""
    settings = f"reports_per_network = 0\n{origins.SETTINGS}"
    home = await origins.make(folder / "origin", regions=REGIONS, settings=settings, now=now_utc())
    await origins.release(home, origins.FIRST, now=now_utc())
    return home


async def typed(home: Home, *words: str) -> dict[str, Any]:
    """``coldchain-server`` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *words, "--home", home.directory, "--json",
        env=dict(os.environ, COLDCHAIN_PASSPHRASE=origins.PASSPHRASE),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.timeout(240)
async def test_what_comes_during_two_moves_counts_once_and_is_never_refused_for_good(folder: Path) -> None:
    home = await published(folder)
    answers: Counter[int] = Counter()
    moves = 0

    async def endpoints(port: int) -> None:
        while moves < 2:
            for status in await asyncio.gather(*(post(port, report(region="us")) for _ in range(4))):
                answers[status] += 1

    async with serving(home.directory, "--no-sign") as server:
        coming = asyncio.create_task(endpoints(server.port))
        await until(lambda: answers[204] > 0)
        for target, source in (("ch", "us"), ("us", "ch")):
            before = answers[204]
            (moved,) = (await typed(home, "residency", "move", "--region", "us", "--to", target))["moves"]
            assert (moved["from"], moved["to"]) == (source, target)
            await until(lambda before=before: answers[204] > before)  # type: ignore[misc]
            moves += 1
        await coming
        assert await server.end() == 0
    assert set(answers) <= {204, 503}, "told to come again, at most"
    assert sum(counted(home, "us").values()) == answers[204]
    assert {store: list(kept) for store, kept in everything(home).items() if kept} == {"us": ["us"]}
    assert (await residents.show(home)).problems == []


@pytest.mark.timeout(240)
async def test_serve_ends_a_move_that_died_after_it_was_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = await published(folder)

    def died(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(room, "set_residency", died)
    with pytest.raises(InterruptedError):
        await residents.move(home, now=now_utc())
    monkeypatch.undo()
    async with serving(home.directory, "--no-sign") as server:
        await until(lambda: server.said("reports moved") is not None)
        assert await post(server.port, report(region="us")) == 204
        assert await server.end() == 0
    assert all_moving(home) == []
    assert sum(counted(home, "us").values()) == 1
    assert everything(home)["us"] == {}


def client(*words: str | Path) -> dict[str, Any]:
    """``coldchain``, with its answer as JSON; it must end well."""
    told = StringIO()
    with redirect_stdout(told):
        code = run([str(word) for word in (*words, "--json")])
    assert code == 0, told.getvalue()
    found: dict[str, Any] = json.loads(told.getvalue())
    return found


@pytest.mark.timeout(240)
async def test_every_reader_of_the_log_goes_on_with_moves_in_it(folder: Path) -> None:
    """Moves stand before, between and after releases; the client's commands all work, and a monitor notes each."""
    home = await origins.make(folder / "origin", regions=REGIONS, now=now_utc())
    for files, target in ((origins.FIRST, "us"), (origins.SECOND, "ch"), (origins.THIRD, "us")):
        if target != "us" or files is origins.THIRD:
            await residents.move(home, "us", target, now=now_utc())
        await origins.release(home, files, now=now_utc())
    await residents.move(home, "us", "ch", now=now_utc())
    await residents.move(home, "jp", "us", now=now_utc())
    entries = [one.target.store for one in await residents.logged(home)]
    assert entries == ["ch", "us", "ch", "us"]
    root = home.directory / "root.json"
    async with serving(home.directory, "--no-sign") as server:
        url = f"http://127.0.0.1:{server.port}"

        def readers() -> None:
            endpoint = folder / "endpoint"
            client("init", endpoint, "--root", root, "--region", "us", "--url", url)
            assert client("update", endpoint)["release"] == 3
            client("verify", endpoint)
            client("status", endpoint)
            assert client("explain", endpoint, "Win.Trojan.Agent-4-0")["found"]
            receipt = client("receipt", endpoint)
            (folder / "receipt.json").write_text(json.dumps(receipt))
            client("receipt", "--check", folder / "receipt.json", "--root", root)
            client("pack", url, "--root", root, "--region", "us", "-o", folder / "us.pack")
            client("verify", folder / "us.pack", "--root", root)
            client("mirror", folder / "mirror", "--region", "us", "--url", url, "--root", root)
            client("compare", url, "us", "jp", "--root", root)
            assert client("rebuild", url, "2", "--root", root)["rebuilt"]
            for first in (True, False):
                seen = client("monitor", url, "--state", folder / "monitor", "--root", root, "--once", "--all")
                notes = [note for note in seen["notes"] if "moved from store" in note]
                assert (seen["alerts"], len(notes)) == ([], 4 if first else 0)

        await asyncio.to_thread(readers)
        assert await server.end() == 0
