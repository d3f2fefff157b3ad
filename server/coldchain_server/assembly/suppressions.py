"""``suppressed.toml``: signatures that are left out in every region, each with its public reason; ``suppress`` writes it.

::

    [[suppressed]]
    name = "Acme.Test.Backdoor-1423"
    reason = "matches a printer driver"
    since = "2026-11-24T02:00:00Z"

A suppression is a policy like any other, only in every region: each manifest declares it with its reason, the assembler leaves the
records out, and an approver or a rebuilder finds the same. A region's own policy about the name gives way to it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from coldchain.errors import UsageError
from coldchain_server.assembly.regions import MOST_REASON, PolicyEntry, Region, Regions

MOST_SUPPRESSED: Final = 1000
_HEAD: Final = (
    "# Signatures left out in every region. `coldchain-server suppress NAME --reason WHY` adds one and builds a release;\n"
    "# `coldchain-server suppress NAME --lift` takes it away, for the releases after that.\n"
)
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z")


@dataclass(frozen=True, slots=True)
class Suppression:
    """A signature's ``name``, the public ``reason``, and ``since`` when (UTC, ``…SSZ``)."""

    name: str
    reason: str
    since: str


def check_line(text: object, what: str) -> str:
    """One line of at most 500 printable characters. Raises UsageError."""
    if not isinstance(text, str) or not text.strip() or len(text) > MOST_REASON or not text.isprintable():
        raise UsageError(f"{what} is missing, or not one line of at most {MOST_REASON} characters")
    return text


def load_suppressed(text: str) -> tuple[Suppression, ...]:
    """Reads the file strictly. Raises UsageError."""
    what = "suppressed.toml"
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{what}: {error}") from error
    rows = document.get("suppressed", [])
    if set(document) - {"suppressed"} or not isinstance(rows, list) or len(rows) > MOST_SUPPRESSED:
        raise UsageError(f"{what}: it holds at most {MOST_SUPPRESSED} tables [[suppressed]] and nothing else")
    found = []
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"name", "reason", "since"}:
            raise UsageError(f"{what}: each [[suppressed]] has name, reason and since")
        if not isinstance(row["since"], str) or not _TIME.match(row["since"]):
            raise UsageError(f"{what}: since is a time such as 2026-11-24T02:00:00Z")
        found.append(
            Suppression(
                check_line(row["name"], f"{what}: name"), check_line(row["reason"], f"{what}: reason"), row["since"]
            )
        )
    if len({one.name for one in found}) != len(found):
        raise UsageError(f"{what}: one name stands there twice")
    return tuple(found)


def encode_suppressed(suppressed: Sequence[Suppression]) -> str:
    """The file's text."""
    rows = [
        "\n[[suppressed]]\n"
        + "".join(
            f"{key} = {json.dumps(getattr(one, key), ensure_ascii=False)}\n" for key in ("name", "reason", "since")
        )
        for one in suppressed
    ]
    return _HEAD + "".join(rows)


def with_suppressed(regions: Regions, suppressed: Sequence[Suppression]) -> Regions:
    """The regions, with every suppression in each one's policy."""
    if not suppressed:
        return regions
    everywhere = tuple(PolicyEntry("leave-out", "signature", one.name, one.reason) for one in suppressed)
    names = {entry.name for entry in everywhere}

    def changed(region: Region) -> Region:
        own = tuple(entry for entry in region.policy if (entry.kind, entry.name in names) != ("signature", True))
        return replace(region, policy=own + everywhere)

    return replace(regions, regions={name: changed(region) for name, region in regions.regions.items()})
