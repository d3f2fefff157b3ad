"""Trying a release again, on whatever machine this is: an approver need not believe what a manifest says of the gate.

The full bundles are taken as they lie there, from the draft or, once they are, from the published tree; they must be the files that
the manifest names. Engines, corpora and limits are those of this machine and its ``settings.toml``, so counts may differ from the
manifest's. What may not differ is the verdict: a check that failed here speaks against the release, whatever the manifest says.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldchain.bundle.manifest import GateCheck, Manifest, parse_manifest
from coldchain.errors import GateError, StateError
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.gate.gate import Order, Outcome, run_gate
from coldchain_server.gate.history import found_before, published_files
from coldchain_server.gate.trial import Say
from coldchain_server.home import Home
from coldchain_server.release.drafts import Draft


@dataclass(frozen=True, slots=True)
class GateAgain:
    """What the manifest says, and what came out here."""

    manifest: Manifest
    outcome: Outcome

    def rows(self) -> list[tuple[GateCheck, GateCheck | None]]:
        """Every check that was made here, and the manifest's line about it."""
        said = {check.check: check for check in self.manifest.gate}
        return [(check, said.get(check.check)) for check in self.outcome.checks]

    @property
    def error(self) -> GateError | None:
        """What to end with; None when nothing here speaks against the release."""
        if not self.outcome.failures:
            return None
        what = f"release {self.manifest.release} of {self.manifest.channel}, tried again here,"
        return self.outcome.refusal(what, "nothing was changed and nothing signed")


async def gate_again(
    home: Home, catalogue: Catalogue, channel: str, number: int, *, say: Say = lambda _: None
) -> GateAgain:
    """Tries a release that was built, logged, approved or published.

    Raises:
        StateError: there is none, or its files are gone.
        GateError: its files are not those that the manifest names, or an installed engine could not be asked.
        BusyError: another publisher is at work.
    """
    async with catalogue.publisher():
        release = await catalogue.release(channel, number)
        if release is None or release.state == "discarded":
            state = "is discarded" if release else "does not exist"
            raise StateError(f"release {number} of {channel} {state}", todo="coldchain-server release list")
        manifest = parse_manifest(home.content.get(release.manifest))
        draft = Draft(home.draft(channel, number))
        if release.state == "published":
            files = published_files(home, manifest)
            served = {region: [path] for region, path in files.items()}
        else:
            files = {region: draft.target(region, "full.ccd") for region in manifest.regions}
            served = {region: sorted(path.parent.glob("*.ccd")) for region, path in files.items()}
        if gone := [region for region, path in files.items() if not path.is_file()]:
            raise StateError(
                f"release {number} of {channel}: the full bundle of {', '.join(gone)} is not there any more",
                todo="try a newer release; keep_generations in settings.toml says how long files are kept",
            )
        settings = home.settings().gate
        before = [one for one in await catalogue.releases(channel) if one.state == "published" and one.number < number]
        records = sum(feed.records for feed in manifest.feeds)
        order = Order(
            product=manifest.product,
            regions=manifest.regions,
            files=files,
            served=served,
            feeds=f"{records} records in {len(manifest.feeds)} feeds by the manifest",
            before=found_before(home, before[-1], settings) if before else None,
        )
        return GateAgain(manifest, run_gate(home, order, settings, say))
