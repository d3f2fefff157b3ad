"""What happens to the fleet, from the first release to the recovery, and what must be so at each step.

::

    release 1   everybody installs it
    release 2   good; through the stages: a share of wave 1, all of it, wave 2; a worker, an edge are killed and come back
    release 3   its new rule finds a file of some customers: their engines refuse it, they say so, the origin holds the rollout itself
    withdraw 3  two approvals, published as an emergency: release 4, the content of 2, for those on 3 at once, for the others by stages
    release 5   the feed is mended: through all stages, over a crash of the origin
    release 6   without stages: everybody at once, which measures how long 200 waiting endpoints take
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import statistics
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.fleet.endpoints import Endpoint, alone, make_endpoints, worker
from tests.system.fleet.processes import CommandError, Server, Site
from tests.system.fleet.publishing import Place, Publishing
from tests.system.fleet.watch import Watch

HANG_SECONDS = 420.0
"""How long one step may take before the test gives up on it; no time is asserted."""

TITLE = "{} endpoints in three regions and two waves: which release each has installed"
SHOWN: dict[str, dict[str, str | bool]] = {
    "1": {"words": "the first"},
    "2": {"words": "good"},
    "3": {"words": "bad: finds a customer's own file", "bad": True},
    "4": {"words": "withdrawal: the content of 2"},
    "5": {"words": "mended"},
    "6": {"words": "without stages"},
}
RELEASES = {"good": 2, "bad": 3, "withdrawal": 4, "mended": 5, "at once": 6}


@dataclass(frozen=True)
class Size:
    """How large a fleet is.

    Attributes:
        counts: endpoints by region.
        engines: in each region, beside the strict ones.
        strict: endpoints by region whose own corpus the bad release fails on.
        workers: processes for those that do not have one of their own.
        alone: endpoints that are a process of their own, in each region.
        stages: of rollout.toml.
        kills: whether things are killed.
    """

    counts: dict[str, int]
    engines: int
    strict: dict[str, int]
    workers: int
    alone: int
    stages: str
    kills: bool


class Fleet:
    """The whole, and the steps of its story.

    Args:
        folder: for everything.
        size: how large.
        places: the regions.
    """

    def __init__(self, folder: Path, size: Size, places: Sequence[Place]) -> None:
        self.size = size
        self.site = Site(folder)
        self.publishing = Publishing(self.site, places)
        self.watch: Watch
        self.endpoints: list[Endpoint] = []
        self.workers: list[tuple[Server, list[Endpoint]]] = []
        self._counted = (0, 0)
        self.figures: dict[str, Any] = {}
        self._watching: asyncio.Task[None] | None = None

    # -- the beginning and the end -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Everything but the agents runs; at the end, everything is ended."""
        try:
            await self.publishing.found()
            await self.publishing.serve()
            yield
        except BaseException:
            print(self.site.words())
            raise
        finally:
            await self.site.end()

    async def found_endpoints(self) -> None:
        """Makes the endpoints' directories, spread over the workers so that each has some of every region."""
        size = self.size
        self.endpoints = make_endpoints(
            self.site.folder / "endpoints", self.publishing, size.counts, size.engines, size.strict
        )
        alone_now: list[Endpoint] = []
        for place in self.publishing.places:
            alone_now += [one for one in self.endpoints if one.region == place.name][::-1][: size.alone]
        together = [one for one in self.endpoints if one not in alone_now]
        for number in range(size.workers):
            mine = together[number :: size.workers]
            self.workers.append((worker(self.site, f"worker-{number}", mine), mine))
        self.workers += [(alone(self.site, one), [one]) for one in alone_now]
        self.watch = Watch(self.publishing, self.endpoints)

    async def until(self, met: Callable[[], bool], what: str) -> None:
        """Waits until it is so. A watch that saw what may not be ends the wait."""
        try:
            async with asyncio.timeout(HANG_SECONDS):
                while not met():
                    self.in_order()
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise CommandError(f"waited {HANG_SECONDS:.0f} s until {what}; {self._standing()}") from None
        self.in_order()

    def in_order(self) -> None:
        """Raises AssertionError for what was seen and may not be, and whatever ended the watch."""
        if self._watching is not None and self._watching.done():
            self._watching.result()
        assert self.watch.broken == [], "\n".join(self.watch.broken)

    def _standing(self) -> str:
        return str({region: dict(found) for region, found in self.watch.samples[-1][1].items()})

    def everybody_on(self, release: int, *regions: str) -> bool:
        """Whether all endpoints, or those of the regions, have it."""
        wanted = [one for one in self.endpoints if one.region in (regions or {one.region})]
        return len(self.watch.on(release, *regions)) == len(wanted)

    def data(self) -> str:
        """What the picture of it is made of, as JSON with a line for each sample."""
        found = {"title": TITLE.format(len(self.endpoints)), "releases": SHOWN, **self.watch.as_json()}
        samples = ",\n".join(json.dumps(one) for one in found.pop("samples"))
        return f'{json.dumps(found, indent=1)[:-2]},\n "samples": [\n{samples}\n]}}\n'

    # -- the story ---------------------------------------------------------------------------------------------------

    async def tell(self) -> None:
        """The whole story."""
        await self.publishing.release(1)
        await self.found_endpoints()
        self._watching = asyncio.create_task(self.watch.run())
        try:
            await self.first()
            await self.good()
            await self.bad()
            await self.withdraw()
            await self.mended()
            await self.at_once()
            await self.judge()
            await self.reports()
        finally:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def first(self) -> None:
        """Release 1 is there, the endpoints are switched on."""
        await self._publish(1, "publish 1")
        for server, _ in self.workers:
            await self._switch_on(server)
        await self.until(lambda: self.everybody_on(1), "everybody has installed release 1")
        self.publishing.schedule(self.size.stages)

    async def good(self) -> None:
        """Release 2 goes through the waves, over two kills."""
        number = RELEASES["good"]
        await self.publishing.release(number)
        await self._publish(number, f"publish {number}")
        one, two = self._waves()
        if self.size.kills:
            await self.until(lambda: len(self.watch.on(number)) > 0, "the first has release 2")
            await self._kill_worker()
        await self.until(lambda: self.everybody_on(number, *one), "wave 1 is through with release 2")
        if self.size.kills:
            await self._kill_edge(two[0], number)
        await self.until(lambda: self.everybody_on(number), "everybody has release 2")

    async def bad(self) -> None:
        """Release 3 is refused by the engines that find the customers' own file with it, and the rollout is held."""
        number = RELEASES["bad"]
        strict = [one for one in self.endpoints if one.strict]
        await self.publishing.release(number, bad=True)
        await self._publish(number, f"publish {number}")

        def met() -> list[Endpoint]:
            return [one for one in strict if self.watch.release_of(one) == number]

        await self.until(lambda: bool(met()), "the first whose engine refuses it has release 3")
        self.watch.note("refuse", f"engines refuse {number}")
        await self._halted(number)
        self.watch.look()
        _, _, rollout = self.publishing.roles("rollout")[-1]
        one, two = self._waves()
        assert {rollout["regions"][region]["stable"]["share"] for region in two} == {0}, (
            "wave 2 was let have the bad release"
        )
        assert not self.watch.on(number, *two), "wave 2 has the bad release"
        self.figures["endpoints on the bad release, and in its regions"] = [
            len(self.watch.on(number)),
            sum(self.size.counts[region] for region in one),
        ]
        refusing = met()
        assert len(refusing) >= 3
        assert {self.watch.engine_of(one) for one in strict} == {RELEASES["good"]}
        refused = await self.site.run("coldchain", "update", refusing[0].path, expect=30)
        assert "report.txt" in str(refused), refused

    async def _halted(self, number: int) -> None:
        """The origin has stopped the rollout on what endpoints report, in every region, and says why where everybody can read it."""
        origin = self.publishing.origin
        await self.until(lambda: bool(origin.said("rollout halted itself")), "the origin halts the rollout itself")
        self.watch.note("halt", f"halts itself: {number} fails")
        (said,) = origin.said("rollout halted itself")
        self.figures["why it halted itself"] = said["why"]
        assert f"report that release {number} fails" in said["why"]
        found = await self.publishing.operate("rollout", "show")
        assert all(one["held"] for one in found["regions"].values()), found
        assert said["why"] in str(found), found

    async def withdraw(self) -> None:
        """Two approvals and an emergency: those on release 3 come away from it at once, all end on the content of release 2."""
        bad, number = RELEASES["bad"], RELEASES["withdrawal"]
        found = await self.publishing.operate("withdraw", str(bad), "--reason", "matches customers' own reports")
        assert (found["release"], found["restores"], found["state"]) == (number, RELEASES["good"], "logged")
        await self.publishing.approve(number)
        ran_bad = [one for one in self.endpoints if self.watch.release_of(one) == bad]
        began = await self._publish(number, f"withdraw {bad}", "--emergency", kind="withdraw")
        await self.until(lambda: not self.watch.on(bad), "nobody has release 3 any more")
        await self.until(lambda: self.everybody_on(number), "everybody has release 4")
        times = [one.at - began for one in self.watch.applied_of(number) if one.endpoint in ran_bad]
        self.figures["seconds from withdraw published to the last endpoint on the bad release"] = round(max(times), 2)
        every = [one.at - began for one in self.watch.applied_of(number)]
        self.figures["seconds from withdraw published to the last endpoint of all, by emergency stages"] = round(
            max(every), 2
        )

    async def mended(self) -> None:
        """Release 5 takes the normal way again, while the origin's server is killed and comes back."""
        number = RELEASES["mended"]
        await self.publishing.release(number)
        await self._publish(number, f"publish {number}", kind="recovery")
        if self.size.kills:
            await self.until(lambda: len(self.watch.on(number)) > 0, f"the first has release {number}")
            self._counted = self._count()
            await self.publishing.origin.kill()
            self.watch.note("kill", "kill -9: the origin")
            await asyncio.sleep(3)
            await self.publishing.origin.start()
        await self.until(lambda: self.everybody_on(number), "everybody has release 5")

    async def at_once(self) -> None:
        """Release 6, without stages: how long it takes until every waiting endpoint has it."""
        number = RELEASES["at once"]
        self.publishing.schedule("")
        await self.publishing.release(number)
        before = self._count()
        began = await self._publish(number, f"publish {number}")
        await self.until(lambda: self.everybody_on(number), "everybody has release 6")
        times = sorted(one.at - began for one in self.watch.applied_of(number))
        self.figures["publish to applied, waiting endpoints, all at once: p50, p99, last"] = _spread(times)
        after = self._count()
        self.figures["requests and bytes at the origin for that release"] = [
            new - old for new, old in zip(after, before, strict=True)
        ]

    async def judge(self) -> None:
        """At the end: every endpoint on the right verified set, and every engine with it."""
        number, watch = RELEASES["at once"], self.watch
        watch.look()
        await watch.audit_all()
        self.in_order()
        for one in self.endpoints:
            assert watch.release_of(one) == number
            if one.engine:
                await self.until(lambda one=one: watch.engine_of(one) == number, f"{one.name}'s engine has release 6")  # type: ignore[misc]
        some = [*(one for one in self.endpoints if one.strict), *(mine[0] for _, mine in self.workers)]
        for one in dict.fromkeys(some):
            found = await self.site.run("coldchain", "verify", one.path)
            assert (found["release"], found["ok"]) == (number, True)
        for release, edge in ((number, name) for name in self.publishing.edges):
            status, page = await asyncio.to_thread(_get, f"{self.publishing.urls[edge]}/healthz")
            assert status == 200
            assert f'"release": {release}' in page or f'"release":{release}' in page, page
        waits = sorted(one.at - watch.admitted(one) for one in watch.applied_of(RELEASES["mended"]))
        self.figures["stage signed to applied, release 5: p50, p99, last"] = _spread(waits)
        self.figures["requests and bytes at the origin in all"] = list(self._count())
        self.figures["looks, audits, switches"] = [watch.looks, watch.audits, len(watch.applied)]

    async def reports(self) -> None:
        """What endpoints said is what happened: the bad release failed on the strict, and nothing failed anywhere else."""
        found = (await self.publishing.operate("reports", "show"))["reports"]
        failed = {(one["region"], one["release"]) for one in found if one["failures"]}
        bad = RELEASES["bad"]
        assert failed == {(region, bad) for region in self.size.strict}, found
        assert all(one["region"] not in self._waves()[1] for one in found if one["release"] == bad)
        self.figures["reports counted, by release"] = {
            release: sum(one["reports"] for one in found if one["release"] == release) for release in range(1, 7)
        }

    # -- parts -------------------------------------------------------------------------------------------------------

    def _waves(self) -> tuple[list[str], list[str]]:
        """The regions of wave 1, and those that come later."""
        places = self.publishing.places
        return [one.name for one in places if one.wave == 1], [one.name for one in places if one.wave > 1]

    async def _publish(self, number: int, words: str, *more: str, kind: str = "publish") -> float:
        """Publishes; returns the moment at which endpoints could see it first."""
        await self.publishing.publish(number, *more)
        self.watch.note(kind, words)
        (at,) = [written for _, written, said in self.publishing.roles("rollout") if _begins(said, number)][:1]
        return at

    async def _switch_on(self, server: Server) -> None:
        """Starts agents. One in a process of its own is not in a hurry: a signal has it poll at once, and not within a minute."""
        lives = len(server.said("started"))
        await server.start()
        if server.name.startswith("agent "):
            await server.until_said("started", lives + 1)
            server.tell(signal.SIGUSR1)

    async def _kill_worker(self) -> None:
        """``kill -9`` of a process with many endpoints, and of one with one, in the middle of a release; what they leave is whole."""
        killed = [self.workers[0], self.workers[-1]]
        for server, _ in killed:
            await server.kill()
        mine = [one for _, some in killed for one in some]
        self.watch.note("kill", f"kill -9: {len(mine)} endpoints")
        self.watch.look()
        await self.watch.audit_all(mine)
        self.in_order()
        await asyncio.sleep(2)
        for server, _ in killed:
            await self._switch_on(server)

    async def _kill_edge(self, region: str, number: int) -> None:
        """``kill -9`` of a region's edge: its endpoints go to the origin, and the edge comes back."""
        await self.publishing.edges[region].kill()
        self.watch.note("kill", f"kill -9: edge of {region}")
        await self.until(lambda: len(self.watch.on(number, region)) > 0, "endpoints go on without their edge")
        await self.until(lambda: self.everybody_on(number, region), "all of them have gone on without their edge")
        await self.publishing.edges[region].start()

    def _count(self) -> tuple[int, int]:
        """Requests answered by the origin, and bytes of their bodies, over all its lives so far."""
        _, text = _get(f"{self.publishing.urls['metrics']}/metrics")
        return self._counted[0] + _sum(text, "responses_total"), self._counted[1] + _sum(text, "response_bytes_total")


def _begins(said: dict[str, Any], number: int) -> bool:
    return any(channels.get("stable", {}).get("release") == number for channels in said["regions"].values())


def _get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.status, answer.read().decode()


def _sum(text: str, name: str) -> int:
    return sum(
        int(float(value)) for value in re.findall(rf"^coldchain_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    )


def _spread(times: Sequence[float]) -> list[float]:
    """Median, 99th percentile and largest, in seconds."""
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return [round(one, 3) for one in (cuts[49], cuts[98], max(times))]
