"""Suppressing one signature: a small release with the content of the newest one, less the records of that name in every region.

The suppression is written first (:mod:`coldchain_server.assembly.suppressions`), so whatever is built from then on leaves the
signature out; then the release is built. Where it cannot be built, the suppression is taken back.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from coldchain.bundle.manifest import Manifest
from coldchain.errors import ColdchainError, UsageError
from coldchain_server.assembly.policies import named_records
from coldchain_server.assembly.suppressions import MOST_SUPPRESSED, Suppression, check_line, encode_suppressed
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import SUPPRESSED, Home
from coldchain_server.release.earlier import earlier_feeds, newest_manifest, policies_of
from coldchain_server.release.withdraw import Prepared, Say, prepare
from coldchain_server.signing.roles import utc_text
from coldchain_server.storage.durable import write_file


def records_of(home: Home, manifest: Manifest, name: str) -> int:
    """How many records of that name the feeds of a release hold, before policies."""
    wanted = frozenset({name})
    return sum(
        named_records(section, home.content.get(section.sha256), wanted).get(name, 0)
        for report in earlier_feeds(home, manifest)[0]
        for section in report.sections
    )


async def suppress(
    home: Home,
    catalogue: Catalogue,
    channel: str,
    name: str,
    *,
    reason: str,
    now: datetime,
    without_gate: str = "",
    say: Say = lambda _: None,
) -> Prepared:
    """Builds the release without a signature; it is logged, approved and published like any other. Again after a crash: goes on.

    Args:
        home: the origin, whose ``suppressed.toml`` names the signature from then on.
        catalogue: has the releases.
        channel: of the release.
        name: of the signature, as the engine reports it.
        reason: why, in public.
        now: the time of creation.
        without_gate: why it goes out although a check of the gate is not run; it becomes public.
        say: told what happens.

    Raises:
        UsageError: the newest release has no signature of that name, or the reason is none.
        StateError: nothing is published yet.
        LintError: another signature needs this one.
        GateError: the release did not pass the gate.
    """
    check_line(name, "the signature's name")
    check_line(reason, "--reason")
    newest = await newest_manifest(home, catalogue, channel)
    before = home.suppressed()
    known = {one.name for one in before}
    if name not in known:
        if not records_of(home, newest, name):
            raise UsageError(
                f"release {newest.release} of {channel} has no signature named {name!r}",
                todo="the name as the engine reports it, without .UNOFFICIAL; for YARA the rule's",
            )
        if len(before) >= MOST_SUPPRESSED:
            raise UsageError(f"{MOST_SUPPRESSED} signatures are suppressed; mend the feeds and lift some")
        _write(home, [*before, Suppression(name, reason, utc_text(now))])
    try:
        policies = policies_of(home.regions())
        return await prepare(
            home, catalogue, channel, newest, None, policies, now=now, without_gate=without_gate, say=say
        )
    except ColdchainError:
        if name not in known:
            _write(home, before)
        raise


def lift(home: Home, name: str) -> None:
    """Takes a suppression away, for the releases from now on. Raises UsageError when there is none."""
    before = home.suppressed()
    rest = [one for one in before if one.name != name]
    if len(rest) == len(before):
        raise UsageError(
            f"{name!r} is not suppressed", todo="suppressed are: " + (", ".join(one.name for one in before) or "none")
        )
    _write(home, rest)


def _write(home: Home, suppressed: Sequence[Suppression]) -> None:
    write_file(home.directory / SUPPRESSED, encode_suppressed(suppressed).encode())
