"""``coldchain diff`` and ``explain``: what is in an installed set."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Final

from coldchain.canonical import Object
from coldchain.commands.command import Add, Found, endpoint_argument, release_number, utc_now, whole_number
from coldchain.commands.view import Block, Column, Fact, Facts, Grid, Lines, Mood, Verdict, view
from coldchain.errors import NotInstalledError
from coldchain.explain import Explanation, Place, explain, find_entry
from coldchain.install import versions
from coldchain.install.audit import running
from coldchain.install.compare import SectionDifference, compare
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import Version

_COLUMNS: Final = (
    Column("section"),
    Column("added", right=True, mood="good"),
    Column("removed", right=True, mood="bad"),
    Column("changed", right=True, mood="warn"),
    Column("names"),
)
_MOODS: Final[dict[str, Mood]] = {"active": "good", "suppressed": "bad", "not-loaded": "bad"}


def add(command: Add) -> None:
    """Adds these commands."""
    diff = command(
        "diff",
        _diff,
        "show the records added, removed and changed between two kept releases, by section",
        "coldchain diff /var/lib/coldchain 41 42",
    )
    endpoint_argument(diff)
    diff.add_argument("old", metavar="M", type=release_number, help="the earlier release")
    diff.add_argument("new", metavar="N", type=release_number, help="the later release")
    diff.add_argument(
        "--names",
        metavar="K",
        type=whole_number,
        default=5,
        help="show at most K names of each sort a section (default 5)",
    )
    about = command(
        "explain",
        _explain,
        "say what a signature looks for and where it stands, or why the region does not have it",
        "coldchain explain /var/lib/coldchain Acme.Test.Fileinfector-7",
    )
    endpoint_argument(about)
    about.add_argument(
        "--history",
        action="store_true",
        help="fetch earlier releases from the configured URLs, to find the first that had it",
    )
    about.add_argument("name", metavar="NAME", help="as an engine reports it, with or without .UNOFFICIAL")


def _diff(options: argparse.Namespace) -> Found:
    directory = ClientDirectory(Path(options.directory))
    directory.config()
    old, new = _installed(directory, options.old), _installed(directory, options.new)
    found = compare(old, new)
    data: Object = {"from": old.release, "to": new.release, "sections": [one.as_json() for one in found]}
    if not found:
        return data, f"release {old.release} -> {new.release}: no section differs but for the canary", None
    width = max(len(one.name) for one in found)
    differ = "1 section differs" if len(found) == 1 else f"{len(found)} sections differ"
    lines = [line for one in found for line in _section_lines(one, width, options.names)]
    totals = {what: sum(getattr(one, what) for one in found) for what in ("added", "removed", "changed")}
    lines += [f"{count:>8,} {what}" for what, count in totals.items()]
    rows = [row for one in found for row in _section_rows(one, options.names)]
    rows.append(("in all", *(f"{totals[what]:,}" for what in ("added", "removed", "changed")), ""))
    head = Verdict(f"release {old.release} -> {new.release}: {differ}", "strong")
    return data, view(head, Grid(_COLUMNS, tuple(rows), tuple(lines), total=True)), None


def _section_rows(found: SectionDifference, most: int) -> list[tuple[str, ...]]:
    names = _names(found, most) or ([f"section {found.what}"] if found.what != "changed" else [""])
    counts = (f"{found.added:,}", f"{found.removed:,}", f"{found.changed:,}")
    return [(found.name, *counts, names[0]), *(("", "", "", "", name) for name in names[1:])]


def _section_lines(found: SectionDifference, width: int, most: int) -> list[str]:
    note = "" if found.what == "changed" else f"  (section {found.what})"
    head = f"  {found.name:<{width}}  +{found.added:,} -{found.removed:,} ~{found.changed:,}{note}"
    return [head, *(f"      {name}" for name in _names(found, most))]


def _names(found: SectionDifference, most: int) -> list[str]:
    """The names that are shown, each with its sign, and how many more there are."""
    out = []
    for sign, count, names in (
        ("+", found.added, found.added_names),
        ("-", found.removed, found.removed_names),
        ("~", found.changed, found.changed_names),
    ):
        out += [f"{sign} {name[:200]}" for name in names[:most]]
        if names and count > most:
            out.append(f"{sign} … {count - min(most, len(names)):,} more")
    return out


def _installed(directory: ClientDirectory, release: int) -> Version:
    """The kept version of that number.

    Raises:
        NotInstalledError: it is not kept here.
    """
    kept = versions.installed(directory)
    for version in kept:
        if version.release == release:
            return version
    here = " and ".join(str(version.release) for version in sorted(kept, key=lambda one: one.release)) or "none"
    raise NotInstalledError(
        f"release {release} is not kept here; releases that are: {here}",
        todo="an endpoint keeps what runs and what ran before it; ask about those",
    )


def _explain(options: argparse.Namespace) -> Found:
    directory = ClientDirectory(Path(options.directory))
    directory.config()
    found = explain(directory, running(directory), options.name, utc_now())
    if options.history and found.places:
        _ask_history(directory, found)
    place = f"release {found.release} of region {found.region}"
    head, blocks = None, []
    if found.places:
        head = Verdict(f"{found.name} is in {place}:", "strong")
        for one in found.places:
            blocks += _place_blocks(one)
        blocks.append(Facts(tuple(_release_facts(found))))
        error = None
    else:
        head = Verdict(f"{found.name} is not in {place}", "strong") if found.policies else None
        error = NotInstalledError(
            f"no signature named {found.name!r} is in {place}",
            todo="compare the spelling; an engine may report a name of its own or of another vendor",
        )
    if found.policies:
        # The name was left out (or added) on purpose and in public: that is an answer, not a failure.
        error = None
        said = [f"  policy of region {found.region}: {one.action}, because: {one.reason}" for one in found.policies]
        blocks.append(Lines(tuple(said), "warn"))
    return found.as_json(), view(head, *blocks), error


def _place_blocks(place: Place) -> list[Block]:
    source = f", from feed {place.feed}" if place.feed else ""
    shown = [line if len(line) <= 300 else f"{line[:300]}…" for line in place.line.splitlines()]
    lines = [f"    | {line}" for line in shown]
    lines += [f"    sigtool: {line}" for line in (place.sigtool or "").splitlines() if line.strip()]
    return [
        Lines((f"  in {place.section}{source}",)),
        Lines((f"    {place.state}: {place.why}",), _MOODS.get(place.state, "warn")),
        *[Lines((f"    {words}",)) for words in place.words],
        Lines(tuple(lines), "quiet"),
    ]


def _release_facts(found: Explanation) -> list[Fact]:
    out = []
    if found.since:
        exact = "first in" if found.since.exact else "at least since"
        out.append(Fact("  since", f"{exact} release {found.since.release}: {found.since.reason}"))
    if found.entry is not None:
        out.append(Fact("  public log", f"entry {found.index:,} of {found.origin} is release {found.entry}"))
    else:
        out.append(Fact("  public log", "NOT SHOWN: `coldchain status` says why", "bad"))
    return out


def _ask_history(directory: ClientDirectory, found: Explanation) -> None:
    import asyncio

    from coldchain.agent.history import first_release

    version = running(directory)
    since = asyncio.run(first_release(directory, version, found.name))
    if found.since is None or since.exact or since.release < found.since.release:
        found.since = since
    elif not found.since.exact:
        found.since = replace(found.since, reason=f"{found.since.reason}; {since.reason}")
    find_entry(directory, version, found, utc_now())
