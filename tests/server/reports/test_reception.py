"""What becomes of what arrives: every verdict, the caps, the bounds on rows, and what is kept of an address (nothing)."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coldchain_server.reports import reception
from coldchain_server.reports.batch import encode_batch
from coldchain_server.reports.edges import EdgeList, KnownEdge
from coldchain_server.reports.ledger import LEFT_OUT, MOST_KEYS, Ledger
from coldchain_server.reports.reception import MOST_BEHIND, Newest, Reception
from coldchain_server.reports.store import Count, ReportStore
from tests.server.reports.sending import CODES, report

NOW = datetime(2026, 6, 1, 9, 30, tzinfo=UTC)
HOUR = "2026-06-01T09:00:00Z"
EDGE = KnownEdge("tokyo-1", ("jp",), "0" * 64, 500)


@dataclass
class Desk:
    """A reception with a store, a clock, and what it counted."""

    path: Path
    now: datetime = NOW
    published: dict[tuple[str, str], int] = field(default_factory=lambda: {("jp", "stable"): 100})
    counted: Counter[str] = field(default_factory=Counter)
    looks: int = 0

    def open(
        self, per_network: int = reception.PER_NETWORK, direct_per_hour: int = reception.DIRECT_PER_HOUR
    ) -> Reception:
        async def newest() -> Newest:
            self.looks += 1
            return self.published

        def count(name: str, amount: int, labels: Mapping[str, str]) -> None:
            self.counted[" ".join([name, *labels.values()])] += amount

        ledger = Ledger(lambda _: ReportStore.open(self.path), pause=0.0)
        return Reception(
            ledger,
            EdgeList(self.path / "edges.toml"),
            newest,
            per_network=per_network,
            direct_per_hour=direct_per_hour,
            now=lambda: self.now,
            count=count,
        )

    def rows(self) -> list[Count]:
        with ReportStore.open(self.path) as store:
            return store.rows("jp")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def one(count: int = 1, **more: object) -> Count:
    first = Count("jp", "stable", 99, 100, "applied", 0, "0.1.0", HOUR, "tokyo-1", count)
    return replace(first, **more)  # type: ignore[arg-type]


async def test_every_verdict_of_a_report(desk: Desk) -> None:
    at = desk.open()
    for body, verdict in {
        report(release=100, source=99): "taken",
        report(release=100 - MOST_BEHIND + 1): "taken",
        report(release=100 - MOST_BEHIND): "unknown",
        report(release=101): "unknown",
        report(release=100, region="us"): "unknown",
        report(release=100).replace(b"stable", b"early"): "unknown",
        b"": "malformed",
        b"{}": "malformed",
        report(release=100) + b" ": "malformed",
        report(release=100).replace(b'"code":0', b'"code":12'): "malformed",
        report(release=100).replace(b"report-1", b"report-2"): "malformed",
        b"[" * 600: "malformed",
    }.items():
        assert await at.single(body, "198.51.100.7") == verdict, body
    assert [(row.release, row.count, row.sender) for row in desk.rows()] == [(37, 1, "direct"), (100, 1, "direct")]
    assert desk.counted["reports applied single"] == 2
    assert desk.looks == 1  # made-up releases cost no look each


async def test_every_verdict_of_a_batch(desk: Desk) -> None:
    at = desk.open()
    both = [one(3), one(2, outcome="engine-failed", code=30)]
    assert await at.batch(encode_batch("jp", 7, both), EDGE) == "taken"
    assert await at.batch(encode_batch("jp", 7, both), EDGE) == "taken"  # and counts once
    assert await at.batch(encode_batch("us", 7, []), EDGE) == "unknown"
    assert await at.batch(encode_batch("jp", 7, both)[:-1], EDGE) == "malformed"
    assert await at.batch(encode_batch("jp", 8, [one(501)]), EDGE) == "too-many"
    assert (
        await at.batch(encode_batch("jp", 9, [one(1, release=101), one(4, release=99, source=98)][::-1]), EDGE)
        == "taken"
    )
    assert desk.counted["reports_left_out"] == 1
    assert {(row.release, row.outcome): row.count for row in desk.rows()} == {
        (100, "applied"): 3,
        (100, "engine-failed"): 2,
        (99, "applied"): 4,
    }
    with ReportStore.open(desk.path) as store:
        store.seal("jp")
    assert await at.single(report(release=100), None) == "busy"
    assert await at.batch(encode_batch("jp", 10, both), EDGE) == "busy"


async def test_hours_that_cannot_be_are_now(desk: Desk) -> None:
    at = desk.open()
    hours = ["1999-01-01T00:00:00Z", "2026-05-25T09:00:00Z", "2026-06-01T10:00:00Z", "2099-01-01T00:00:00Z"]
    assert await at.batch(encode_batch("jp", 1, [one(1, hour=hour) for hour in hours]), EDGE) == "taken"
    assert [(row.hour, row.count) for row in desk.rows()] == [("2026-05-25T09:00:00Z", 1), (HOUR, 3)]


async def test_a_network_has_its_share_of_an_hour_and_others_theirs(desk: Desk) -> None:
    at = desk.open(per_network=3)
    for address, taken in {
        "198.51.100.7": 3,
        "198.51.100.8": 0,
        "::ffff:198.51.100.9": 0,
        "198.51.101.7": 3,
        "2001:db8:1:2::3": 3,
        "2001:db8:1:ffff::4%eth0": 0,
        "2001:db8:2::1": 3,
    }.items():
        found = [await at.single(report(release=100), address) for _ in range(4)]
        assert found == ["taken"] * taken + ["too-many"] * (4 - taken), address
    desk.now += timedelta(hours=1)
    assert await at.single(report(release=100), "198.51.100.8") == "taken"


async def test_a_flood_from_one_network_is_a_hundred_and_a_botnet_s_ends_at_the_sender_s_cap(desk: Desk) -> None:
    """The numbers of docs/reports.md."""
    assert (reception.PER_NETWORK, reception.DIRECT_PER_HOUR) == (100, 100_000)
    at = desk.open(direct_per_hour=250)
    bad = report("engine-failed", release=100)
    flood = await asyncio.gather(*(at.single(bad, f"203.0.113.{number % 256}") for number in range(1_000)))
    assert Counter(flood) == {"taken": 100, "too-many": 900}
    botnet = await asyncio.gather(*(at.single(bad, f"10.{number // 256}.{number % 256}.1") for number in range(1_000)))
    assert Counter(botnet) == {"taken": 150, "too-many": 850}
    assert sum(row.count for row in desk.rows()) == 250


async def test_without_the_cap_the_flood_is_counted_whole(desk: Desk) -> None:
    at = desk.open(per_network=0)
    found = await asyncio.gather(*(at.single(report(release=100), "203.0.113.9") for _ in range(300)))
    assert Counter(found) == {"taken": 300}


async def test_whatever_senders_make_up_rows_are_bounded(desk: Desk) -> None:
    at = desk.open(per_network=0)
    body = report("engine-failed", release=100, source=7)
    made_up = (body.replace(b'"0.1.0"', b'"%d.%d"' % pair) for pair in itertools.product(range(30), range(30)))
    assert set(await asyncio.gather(*(at.single(one, None) for one in made_up))) == {"taken"}
    rows = desk.rows()
    assert len(rows) == MOST_KEYS + 1
    assert sum(row.count for row in rows) == 900
    (rest,) = [row for row in rows if row.version == LEFT_OUT]
    assert (rest.source, rest.outcome, rest.code, rest.count) == (
        0,
        "engine-failed",
        CODES["engine-failed"],
        900 - MOST_KEYS,
    )


async def test_no_address_is_anywhere(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    at = desk.open(per_network=2)
    for _ in range(3):
        await at.single(report(release=100), "203.0.113.77")
    await at.single(b"nonsense", "203.0.113.77")
    everything = b"".join(path.read_bytes() for path in desk.path.rglob("*") if path.is_file())
    told = [everything, str(desk.counted).encode(), caplog.text.encode(), repr(vars(at._networks)).encode()]
    for text in told:
        assert b"203.0.113" not in text
        assert bytes([203, 0, 113]) not in text
    key = at._networks._key
    desk.now += timedelta(hours=1)
    await at.single(report(release=100), "203.0.113.77")
    assert at._networks._key != key
