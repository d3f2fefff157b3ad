"""Outcome reports on real programs: an endpoint's way through two edges to the origin's counts, and a rollout that halts itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from coldchain.agent.update import update
from coldchain.errors import HeldError
from coldchain.install.report_memory import read_report_memory
from coldchain_server.home import Home
from coldchain_server.release.rollout import change_rollout, course
from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.reports.spool import edge_reports
from coldchain_server.signing.roles import load_state, now_utc
from tests.server import origins
from tests.server.edge.edges import edge, serves, url_of
from tests.server.memory import memory_folder
from tests.server.release.test_rollout import scheduled
from tests.server.reports.sending import post_all, report, sums
from tests.server.test_serve import serving
from tests.server.web.published import Client, until
from tests.system.test_edges import endpoint, words

QUICK = ("--reports-every", "0.3")


def token(path: Path, name: str, folder: Path) -> list[str]:
    """Has an edge counted at the upstream whose list this is; its words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.token"
    file.write_text(EdgeList(path).add(name, ["jp"]) + "\n")
    return ["--report-token", str(file), *QUICK]


@pytest.mark.timeout(240)
async def test_an_endpoint_s_report_goes_through_two_edges_and_is_counted_once() -> None:
    with memory_folder() as folder:
        home = await origins.make(folder / "origin", now=now_utc())
        await origins.release(home, origins.FIRST, now=now_utc())
        one_words = token(home.directory / FILE, "one", folder)
        two_words = token(edge_reports(folder / "one") / FILE, "two", folder)
        async with (
            serving(home.directory, "--no-sign") as origin,
            edge(folder / "one", *words(home, origin), *one_words) as one,
        ):
            await serves(one, 1)
            async with edge(folder / "two", *words(home, one), *two_words) as two:
                await serves(two, 1)
                client = endpoint(home, folder / "client", url_of(two), url_of(origin))
                (client.path / "policy.toml").write_text("[reports]\nsend = true\n")
                assert (await update(client)).release == 1
                memory = read_report_memory(client)
                assert memory.last is not None
                assert (memory.last.data, memory.last.url, memory.waiting) == (report(), url_of(two), ())
                assert (await update(client)).action == "current"  # which is said to nobody
                await until(lambda: bool(sums(home)))
                assert sums(home) == {("one", "applied"): 1}
                assert await two.end() == 0
            for process in (origin, one, two):
                assert b"127.0.0.1:" not in process.raw.replace(b'"url": "http://127.0.0.1:', b"")


def all_lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.splitlines()]


async def stands(home: Home) -> tuple[list[str], str]:
    """The regions in which it is held, and why it halted itself."""
    found = course(home, await load_state(home.storage), "stable")
    assert found.standing is not None
    return found.held, found.standing.halted.why if found.standing.halted else ""


@pytest.mark.timeout(240)
async def test_a_rollout_halts_itself_and_goes_on_when_a_person_says_so() -> None:
    with memory_folder() as folder:
        home = await origins.make(folder / "origin", now=now_utc())
        await origins.release(home, origins.FIRST, now=now_utc())
        scheduled(home)
        await origins.release(home, origins.SECOND, now=now_utc())
        bad, good = (report(outcome, "us", 2, 1) for outcome in ("engine-failed", "applied"))
        async with serving(home.directory, "--metrics-port", "0", passphrase=origins.PASSPHRASE) as server:
            assert set(await post_all(server.port, [good] * 48 + [bad] * 2)) == {204}
            assert await stands(home) == ([], "")  # 4 %, and two failures are too few
            assert await post_all(server.port, [bad]) == [204]
            await until(lambda: server.said("rollout halted itself") is not None)
            held, why = await stands(home)
            assert (held, why[:60]) == (["us", "jp"], "endpoints in us report that release 2 fails: 3 of 51 reports")
            client = endpoint(home, folder / "client", url_of(server))
            with pytest.raises(HeldError):
                await update(client)

            # a person lets it go on: what was reported before does not halt it again, what comes then does
            async with home.catalogue() as catalogue:
                ring = origins.keyring(home)
                await change_rollout(home, catalogue, ring, "stable", [], now=now_utc(), held=False)
            assert await stands(home) == ([], "")
            port = server.port
            server.lines.clear()
            assert await post_all(port, [bad] * 2 + [good] * 47) == [204] * 49
            assert await stands(home) == ([], "")
            assert await post_all(port, [bad]) == [429]  # one network's hundred are used up
            assert await post_all(port, [bad], local="127.0.9.1") == [204]
            await until(lambda: server.said("rollout halted itself") is not None)
            assert (await stands(home))[0] == ["us", "jp"]
            line = server.said("rollout halted itself")
            assert line is not None
            assert "3 of 50 reports by one sender, 6.0 %, and the limit is 2 %" in line["why"]
            listening = [one for one in all_lines(server.raw) if one["message"] == "listening"]
            async with Client(*await asyncio.open_connection("127.0.0.1", listening[0]["metrics_port"])) as metrics:
                page = (await metrics.get("/metrics")).body.decode()
            assert 'coldchain_reports_total{outcome="applied",way="single"} 95' in page
            assert 'coldchain_reports_total{outcome="engine-failed",way="single"} 6' in page
            assert 'coldchain_report_requests_total{kind="single",verdict="too-many"} 1' in page
            assert await server.end() == 0
        assert b"127.0.9" not in server.raw
