"""An origin whose regions keep their reports each in a store of its own, with real reports in them and a public log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from coldchain.residency import Move, is_move, parse_move
from coldchain_server.home import Home
from coldchain_server.log.http_witnesses import HttpWitnesses
from coldchain_server.log.public_log import PublicLog
from coldchain_server.reports.move import Signing, begin, go_on, mover
from coldchain_server.reports.moving import Moving
from coldchain_server.reports.store import FILE, Batch, Count, Pardon, ReportStore
from coldchain_server.reports.stores import report_store
from coldchain_server.reports.whereabouts import Whereabouts, whereabouts
from coldchain_server.signing.log_policy import policy_of
from coldchain_server.signing.roles import load_state
from tests.client.tuf.repository import NOW
from tests.server import origins

REGIONS = """# A comment that stays.
[stores.ch]
jurisdiction = "Switzerland"

[regions.us]
jurisdiction = "United States"
residency = "us"   # until December

[regions.jp]
jurisdiction = "Japan"
residency = "jp"

[regions.nippon]
alias = "jp"
"""
ALL = ("us", "jp", "nippon")
ONE = Count("us", "stable", 41, 42, "applied", 0, "0.5.0", "2026-06-01T09:00:00Z", "edge-1", 1)


def counts(region: str, rows: int = 7) -> list[Count]:
    """So many rows, of some hours and senders."""
    return [
        replace(
            ONE,
            region=region,
            release=42 + number % 2,
            outcome=("applied", "refused", "engine-failed")[number % 3],
            hour=f"2026-06-{1 + number // 24 % 28:02}T{number % 24:02}:00:00Z",
            sender=f"{region}-edge-{number % 5}-{number}",
            count=1 + number % 4,
        )
        for number in range(rows)
    ]


def fill(home: Home, rows: int = 7, regions: Iterable[str] = ALL) -> None:
    """Reports of every region come in, in numbered batches, and a person pardons some."""
    for region in regions:
        with report_store(home, region) as store:
            assert store.add(counts(region, rows), Batch(region, f"{region}-edge", 1))
            store.pardon([Pardon(region, "stable", 42, "direct", 3, 1, 0)])


def arrive(home: Home, region: str, number: int) -> bool:
    """One more report comes, as a batch with that number; False when it was counted before."""
    with report_store(home, region) as store:
        return store.add([replace(ONE, region=region)], Batch(region, "late-edge", number))


def counted(home: Home, region: str) -> Counter[Count]:
    """What counts of a region: what the store holds that regions.toml names."""
    with report_store(home, region) as store:
        return Counter({replace(one, count=1): one.count for one in store.rows(region)})


def everything(home: Home) -> dict[str, dict[str, list[bytes]]]:
    """Store -> region -> all lines, read from every store's file that there is, whatever is configured."""
    found: dict[str, dict[str, list[bytes]]] = {}
    for path in sorted(home.directory.glob(f"**/{FILE}")):
        with ReportStore.open(path.parent) as store:
            found[path.parent.name] = {region: store.lines(region) for region in store.regions()}
    return found


async def make(directory: Path, regions: str = REGIONS, rows: int = 7) -> Home:
    home = await origins.make(directory, regions=regions)
    fill(home, rows, home.regions().regions)
    return home


def signing(home: Home, now: datetime = NOW) -> Signing:
    return Signing(origins.keyring(home), HttpWitnesses(), lambda: now)


async def move(home: Home, region: str = "us", target: str = "ch", now: datetime = NOW) -> Moving | None:
    """``residency move``."""
    with mover(home):
        found = begin(home, region, target)
        if found is None:
            return None
        async with home.catalogue() as catalogue:
            return await go_on(home, catalogue, found, signing(home, now))


async def show(home: Home, deep: bool = False) -> Whereabouts:
    """``residency show``."""
    return await whereabouts(home, NOW, HttpWitnesses() if deep else None)


async def public_log(home: Home) -> PublicLog:
    return PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])


async def logged(home: Home) -> list[Move]:
    """The moves in the log."""
    log = await public_log(home)
    return [parse_move(entry) async for _, entry in log.entries(await log.checkpoint()) if is_move(entry)]


def fill_more(home: Home, region: str, rows: int) -> None:
    with report_store(home, region) as store:
        store.add(counts(region, rows))
