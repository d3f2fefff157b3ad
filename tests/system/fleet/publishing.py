"""The publishing side: an origin, two witnesses, two approvers with a key and a directory each, and an edge for each region.

::

    SITE/witness-a  witness-b       cosign the public log
    SITE/origin                     holds the assembler's and the online keys, and no approver's
    SITE/approver-1  approver-2     the origin's files over a shared folder (links, here), and a key of their own
    SITE/offline                    the root and targets keys, carried away after the ceremony
    SITE/edge-us  edge-jp  edge-row each with the origin as its upstream
    SITE/feeds/hashes  rules        what the feeds hold: :func:`lay_feeds`

Everything is typed as an operator would type it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldchain_server.demo import free_port
from tests.client.agent.publisher import hashes
from tests.system.fleet.processes import Server, Site

WITNESSES = ("a", "b")
APPROVERS = ("approver-1", "approver-2")
SHOWN_TO_CUSTOMERS = b"The quarterly report of Example Corporation"
"""A text in a file of some customers, which the bad release's rule takes for an attack."""

SETTINGS = """
reports_per_network = 0  # every endpoint has the address 127.0.0.1
[gate]
engines = ["yara"]
system_mebibytes = 1
without = "a test of the fleet, on a machine that may have no ClamAV"
"""
GOOD_RULE = 'rule Acme_Loader_{number} {{ strings: $a = "acme-loader-{number}" condition: $a }}\n'
BAD_RULE = f"rule Acme_Overreach {{ strings: $a = {{ {b'quarterly report'.hex(' ')} }} condition: $a }}\n"
"""In hexadecimal, since the gate also scans the files that carry it, which a rule with the text in it would find."""


@dataclass(frozen=True)
class Place:
    """A region of the fleet."""

    name: str
    jurisdiction: str
    wave: int
    leaves_out: str = ""

    def toml(self) -> str:
        """Its part of regions.toml."""
        text = f'[regions.{self.name}]\njurisdiction = "{self.jurisdiction}"\nwave = {self.wave}\n\n'
        if self.leaves_out:
            text += f'[[regions.{self.name}.policy]]\naction = "leave-out"\nkind = "signature"\nname = "{self.leaves_out}"\n'
            text += 'reason = "matches a printer driver sold only there"\n\n'
        return text


def lay_feeds(folder: Path, number: int, *, bad: bool = False) -> None:
    """The feeds' files as they are for one release: some hashes come, some go, a rule comes; or a bad rule as well."""
    for name in ("hashes", "rules"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    (folder / "hashes" / "daily.hsb").write_bytes(hashes(*range(3 * number, 400 + 5 * number)))
    (folder / "hashes" / "main.hsb").write_bytes(hashes(*range(10_000, 12_000)))
    rules = "".join(GOOD_RULE.format(number=one) for one in range(1, number + 1))
    (folder / "rules" / "loaders.yar").write_text(rules + (BAD_RULE if bad else ""))


class Publishing:
    """The publisher's people and programs.

    Args:
        site: where they are.
        places: the regions.
    """

    def __init__(self, site: Site, places: Sequence[Place]) -> None:
        self._site, self.places = site, tuple(places)
        self.home = site.folder / "origin"
        self.feeds = site.folder / "feeds"
        self.root = self.home / "root.json"
        self.origin: Server
        self.edges: dict[str, Server] = {}
        self.urls: dict[str, str] = {}
        """Of the edges by region, and of the origin by that name."""

    async def found(self) -> None:
        """Witnesses, the ceremony, the keys to their places, the feeds; nothing is released yet."""
        site, ports, lines = self._site, {}, []
        for name in WITNESSES:
            ports[name] = free_port()
            folder = site.folder / f"witness-{name}"
            words: list[str | Path] = ["--name", f"{name}.example/witness", "--demo-keys", "--no-serve"]
            vkey = (await site.run("coldchain-server", "witness", folder, *words))["vkey"]
            lines.append(f"witness {name} {vkey} http://127.0.0.1:{ports[name]}")
        policy, regions = site.folder / "witnesses.policy", site.folder / "regions.toml"
        policy.write_text("\n".join([*lines, f"group both all {' '.join(WITNESSES)}", "quorum both", ""]))
        regions.write_text('neutral = "ch"\n\n' + "".join(place.toml() for place in self.places))
        told: list[str | Path] = [
            "--policy",
            policy,
            "--regions",
            regions,
            "--log-name",
            "fleet.example/log",
            "--demo-keys",
        ]
        vkey = (await site.run("coldchain-server", "init", self.home, *told))["log"]
        with (self.home / "settings.toml").open("a") as settings:
            settings.write(SETTINGS)
        for name in WITNESSES:
            words = ["--log", vkey, "--port", str(ports[name])]
            server = site.server(
                f"witness {name}", "coldchain-server", "witness", site.folder / f"witness-{name}", *words
            )
            await server.start()
        self._carry_keys()
        lay_feeds(self.feeds, 1)
        for name, kind in (("hashes", "clamav"), ("rules", "yara")):
            await self.operate("feed", "add", f"acme-{name}", self.feeds / name, "--kind", kind)

    def _carry_keys(self) -> None:
        """Each key to where it belongs: the origin keeps none that is not for it."""
        keys, offline = self.home / "keys", self._site.folder / "offline"
        offline.mkdir()
        for file in sorted(keys.glob("*.json")):
            if file.stem.startswith(("root-", "targets-")):
                file.rename(offline / file.name)
        for name in APPROVERS:
            own = self._site.folder / name
            (own / "keys").mkdir(parents=True)
            (keys / f"{name}.json").rename(own / "keys" / f"{name}.json")

    def _shared(self, approver: str) -> Path:
        """An approver's directory with what the origin has by now, over the shared folder."""
        own = self._site.folder / approver
        for path in self.home.iterdir():
            if path.name != "keys":
                with contextlib.suppress(FileExistsError):
                    (own / path.name).symlink_to(path)
        return own

    async def serve(self) -> None:
        """The origin's server and the edges, on ports that stay theirs."""
        port, metrics = free_port(), free_port()
        words: list[str | Path] = ["serve", self.home, "--port", str(port), "--metrics-port", str(metrics)]
        self.origin = self._site.server("origin", "coldchain-server", *words)
        self.urls["origin"], self.urls["metrics"] = (f"http://127.0.0.1:{one}" for one in (port, metrics))
        await self.origin.start()
        await self.origin.until_said("listening")
        for place in self.places:
            await self._start_edge(place)
        for edge in self.edges.values():
            await edge.until_said("listening")

    async def _start_edge(self, place: Place) -> None:
        """An edge of the region, which sends on what endpoints report to it."""
        port, token = free_port(), self._site.folder / f"edge-{place.name}.token"
        made = await self.operate("reports", "add-edge", f"{place.name}-1", "--region", place.name)
        token.write_text(made["token"])
        words: list[str | Path] = ["--region", place.name, "--upstream", self.urls["origin"], "--root", self.root]
        words += ["--port", str(port), "--report-token", token, "--reports-per-network", "0", "--reports-every", "2"]
        folder = self._site.folder / f"edge-{place.name}"
        edge = self._site.server(f"edge {place.name}", "coldchain-server", "edge", folder, *words)
        self.edges[place.name], self.urls[place.name] = edge, f"http://127.0.0.1:{port}"
        await edge.start()

    async def operate(self, *words: str | Path, expect: int = 0) -> dict[str, Any]:
        """A command of ``coldchain-server`` on the origin."""
        return await self._site.run("coldchain-server", *words, "--home", self.home, expect=expect)

    async def approve(self, number: int) -> None:
        """Both approvers check the release for themselves and sign, each with the only key they have."""
        for name in APPROVERS:
            words: list[str | Path] = ["release", "approve", str(number), "--key", name, "--home", self._shared(name)]
            found = await self._site.run("coldchain-server", *words)
            assert found["signed"] == name

    async def release(self, number: int, *, bad: bool = False) -> None:
        """New content in the feeds, and the whole way up to what can be published."""
        lay_feeds(self.feeds, number, bad=bad)
        found = await self.operate("release", "build")
        assert found["release"] == number
        await self.approve(number)

    async def publish(self, number: int, *words: str) -> None:
        """The release begins."""
        await self.operate("release", "publish", str(number), *words)

    def schedule(self, text: str) -> None:
        """Writes rollout.toml."""
        (self.home / "rollout.toml").write_text(text)

    # -- what anybody can read in the published tree -----------------------------------------------------------------

    def roles(self, name: str, above: int = 0) -> list[tuple[int, float, dict[str, Any]]]:
        """The versions of a role after one, in order: number, the moment it was written, and its own member."""
        found = []
        for file in (self.home / "public" / "metadata").glob(f"*.{name}.json"):
            version = int(file.name.partition(".")[0])
            if version > above:
                signed = json.loads(file.read_bytes())["signed"]
                found.append((version, file.stat().st_mtime, signed["coldchain"]))
        return sorted(found, key=lambda one: one[0])
