"""An origin with everything that decides a bundle: three feeds, bad lines left out, four regions with policies of each sort."""

from __future__ import annotations

from pathlib import Path

from coldchain_server.catalogue.interface import Feed
from coldchain_server.feeds.pull import pull
from coldchain_server.home import Home
from coldchain_server.release.build import build
from coldchain_server.signing.roles import utc_text
from tests.client.agent.publisher import hashes
from tests.client.tuf.repository import NOW
from tests.server import origins

REGIONS = """
[regions.us]
jurisdiction = "United States"

[regions.eu]
jurisdiction = "European Union"

[[regions.eu.policy]]
action = "leave-out"
kind = "feed"
name = "lists"
reason = "a court said so"

[regions.jp]
jurisdiction = "Japan"

[[regions.jp.policy]]
action = "leave-out"
kind = "signature"
name = "Win.Trojan.Agent-3-0"
reason = "matches a printer driver sold only there"

[[regions.jp.policy]]
action = "add"
kind = "signature"
name = "Win.Trojan.Agent-8-0"
reason = "asked for there"

[regions.kr]
jurisdiction = "South Korea"

[[regions.kr.policy]]
action = "add"
kind = "feed"
name = "korean"
reason = "of that market only"
"""
NAMES = ("eu", "jp", "kr", "us")
BAD_LINE = b"not-a-hash:12:Bad.Line-1\n"
FEEDS: dict[str, tuple[str, dict[str, bytes]]] = {
    "acme": (
        "clamav",
        {
            "daily.hsb": BAD_LINE + hashes(*range(30)),
            "rules.yar": b"rule A { condition: true }\nrule B { condition: false }\n",
        },
    ),
    "lists": ("list", {"domains.txt": b"one.example\ntwo.example\n"}),
    "korean": ("clamav", {"more.hsb": hashes(500, 501)}),
}


async def feed(home: Home, name: str, kind: str, files: dict[str, bytes]) -> None:
    """The feed holds these files from now on."""
    folder = home.directory.parent / f"{home.directory.name}-{name}"
    folder.mkdir(exist_ok=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    async with home.catalogue() as catalogue:
        await pull(home, catalogue, Feed(name, kind, str(folder), name == "acme"), taken=utc_text(NOW))


async def make(directory: Path) -> Home:
    """Releases 1 and 2 are published, 3 is logged and not yet approved."""
    home = await origins.make(directory, regions=REGIONS)
    for name, (kind, files) in FEEDS.items():
        await feed(home, name, kind, files)
    await origins.release(home, None)
    await feed(home, "acme", "clamav", FEEDS["acme"][1] | {"daily.hsb": BAD_LINE + hashes(*range(2, 34))})
    await origins.release(home, None)
    await feed(home, "acme", "clamav", FEEDS["acme"][1] | {"daily.hsb": BAD_LINE + hashes(*range(2, 36))})
    async with home.catalogue() as catalogue:
        await build(home, catalogue, channel="stable", now=NOW, pull_feeds=False)
    await origins.log_built(home, 3)
    return home
