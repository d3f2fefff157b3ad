"""``coldchain-server region``: the regions, and what their policies would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from coldchain.errors import UsageError
from coldchain_server.commands.options import channel_option, example, home_option, json_option, out, run
from coldchain_server.home import Home
from coldchain_server.release.preview import Preview, preview
from coldchain_server.signing.roles import ROLLOUT, load_state


@click.group()
def region() -> None:
    """The regions, and what their policies do."""


@region.command("list", epilog=example("coldchain-server region list"))
@home_option
@json_option
def region_list(directory: Path, as_json: bool) -> None:
    """Show the regions of regions.toml, and what is published in each."""
    home = Home(directory)
    home.require()
    regions, state, channels = home.regions(), run(load_state(home.storage)), home.settings().channels
    rows: list[dict[str, Any]] = []
    for name, one in regions.regions.items():
        facts = {c: state.channel(name, c) for c in channels} if name in state.delegated else {}
        rows.append(
            {
                "region": name,
                "jurisdiction": one.jurisdiction,
                "wave": one.wave,
                "alias": one.alias or None,
                "edges": list(one.edges),
                "residency": one.residency,
                "policies": len(one.policy),
                "role": name in state.delegated,
                "releases": {channel: found["release"] for channel, found in facts.items() if found is not None},
            }
        )
    gone = sorted(set(state.delegated) - {ROLLOUT, *regions.regions})
    lines = []
    for row in rows:
        runs = ", ".join(f"{channel} {number}" for channel, number in row["releases"].items()) or "no release yet"
        alias = f", an old name of {row['alias']}" if row["alias"] else ""
        role = "" if row["role"] else "; no role yet: coldchain-server keys regions"
        lines.append(
            f"{row['region']:6} wave {row['wave']}  {row['jurisdiction']}{alias}; {row['policies']} policies; {runs}{role}"
        )
    lines += [f"{name:6} is not in regions.toml any more: its endpoints get no release" for name in gone]
    out({"neutral": regions.neutral, "regions": rows, "gone": gone}, as_json, lines)


@region.command("preview", epilog=example("coldchain-server region preview jp"))
@click.argument("name")
@click.option(
    "--regions",
    "file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A regions.toml to try, instead of the origin's.",
)
@channel_option
@home_option
@json_option
def region_preview(name: str, file: Path | None, channel: str, directory: Path, as_json: bool) -> None:
    """Show what the region's policies would do to its bundle, compared with the published one. Nothing is changed."""
    home = Home(directory)
    home.require()
    home.check_channel(channel)
    try:
        regions = home.regions(file.read_text(encoding="utf-8")) if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error

    async def work() -> Preview:
        async with home.catalogue() as catalogue:
            return await preview(home, catalogue, channel, name, regions)

    found = run(work())
    out(found.as_json(), as_json, _lines(found))


def _lines(found: Preview) -> list[str]:
    records, size = found.after
    head = f"region {found.region}, {channel_words(found)}: {records:,} records, {size:,} bytes"
    if found.before is not None:
        was, length = found.before
        head += f" (published: {was:,} records, {length:,} bytes)"
    lines = [head]
    for state, one in found.policy:
        count = f"{one.records} records" if one.records else "no record has that name"
        lines.append(f"  {state:12} {one.action} {one.kind} {one.name} ({count}): {one.reason}")
    for section in found.sections:
        if section.added is None or section.removed is None:
            lines.append(f"  {section.name}: another file")
        elif section.before is None or section.after is None:
            lines.append(f"  {section.name}: {'comes' if section.before is None else 'goes'} as a whole")
        else:
            lines.append(f"  {section.name}: {section.added:,} records more, {section.removed:,} less")
    if found.unchanged:
        lines.append("  the bundle is what is published")
    return lines


def channel_words(found: Preview) -> str:
    """What the preview is made of."""
    if found.published is None:
        return f"channel {found.channel}, from the newest snapshots (nothing is published there)"
    return f"channel {found.channel}, from the snapshots of release {found.published}"
