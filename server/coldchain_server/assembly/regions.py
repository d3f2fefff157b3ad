"""``regions.toml``: the regions, and how each one's bundle differs from the global one, with a public reason for everything.

::

    neutral = "ch"                     # where the origin stands: assembles, signs, publishes

    [regions.jp]
    jurisdiction = "Japan"
    wave = 1                           # rollouts go wave by wave
    edges = ["https://jp.example"]     # base URLs in the order clients try them; empty: the origin itself
    residency = "ch"                   # the store that keeps this region's outcome reports; by default the neutral region's

    [[regions.jp.policy]]
    action = "leave-out"               # or "add"
    kind = "signature"                 # or "feed"
    name = "Acme.Test.Fileinfector-7"
    reason = "matches a printer driver sold only in Japan"

    [stores.ch]                        # a store that a residency names: a region's, the neutral one's, or one of any other name
    jurisdiction = "Switzerland"       # where what is kept there lies; by default its region's
    path = "/mnt/zurich/reports"       # a mounted volume there, or a path below the origin's directory; by default reports/ch

Which store keeps a region's reports is changed by ``coldchain-server residency move`` alone, which takes the reports along.

A region's name never changes and never goes (clients follow a signed role of that name), so choose it once. If it must have another
one, add the region under its new name, and keep the old name as an alias, for ever::

    [regions.apac]                     # what [regions.jp] held
    jurisdiction = "Japan"

    [regions.jp]
    alias = "apac"                     # and nothing else: everything of it is apac's

Both roles are published with each release, from the same sections under the same policy; the bundles differ by the region's name in
them and the canary with it. Endpoints that follow the old name notice nothing, new ones take the new name.

What is *added* somewhere is regional: it is in no other region's bundle and not in the global one, unless added there too.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final, Literal, cast

from coldchain.bundle.description import check_token
from coldchain.errors import MalformedError, UsageError

GLOBAL: Final = "global"
RESERVED: Final = frozenset({GLOBAL, "root", "targets", "snapshot", "timestamp", "rollout"})
MOST_REASON: Final = 500

DEFAULT: Final = """\
# The regions of this origin. Every difference between a region's bundle and the global one stands here with its reason,
# and is published in each release's manifest.
neutral = "ch"

# Where the regions' outcome reports are kept: here, until a region has a line like residency = "us" (see docs/residency.md).
[stores.ch]
jurisdiction = "Switzerland"

[regions.us]
jurisdiction = "United States"
wave = 1

[regions.eu]
jurisdiction = "European Union"
wave = 1

[regions.jp]
jurisdiction = "Japan"
wave = 1

[regions.kr]
jurisdiction = "South Korea"
wave = 1

[regions.sg]
jurisdiction = "Singapore"
wave = 1

[regions.au]
jurisdiction = "Australia"
wave = 1

[regions.row]
jurisdiction = "rest of the world"
wave = 2

# A policy looks like this:
# [[regions.jp.policy]]
# action = "leave-out"          # or "add"
# kind = "signature"            # or "feed"
# name = "Win.Test.Example-1"
# reason = "why, in words that everybody may read"
"""

Action = Literal["leave-out", "add"]
Subject = Literal["feed", "signature"]


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """One declared difference of a region's bundle."""

    action: Action
    kind: Subject
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Region:
    """One region; ``wave`` counts from 1. ``alias`` is the name it has now, if this one is an old name of it."""

    name: str
    jurisdiction: str
    wave: int = 1
    edges: tuple[str, ...] = ()
    residency: str = ""
    policy: tuple[PolicyEntry, ...] = ()
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Store:
    """Where outcome reports are kept: ``path`` is absolute, or relative to the origin's directory."""

    name: str
    jurisdiction: str
    path: PurePosixPath


@dataclass(frozen=True, slots=True)
class Regions:
    """All regions of an origin, in the order of the file. ``stores`` are those that have a table."""

    neutral: str
    regions: dict[str, Region] = field(default_factory=dict)
    stores: dict[str, Store] = field(default_factory=dict)

    def store(self, name: str) -> Store:
        """The store of that name, which may have no table; whether anything names it is another question."""
        region = self.regions.get(name)
        return self.stores.get(name) or Store(name, region.jurisdiction if region else name, _store_path(name))

    def store_names(self) -> list[str]:
        """The stores that a residency may name: the neutral region's, those with a table, each region's."""
        return list(dict.fromkeys([self.neutral, *self.stores, *self.regions]))

    def kept_in(self, name: str) -> frozenset[str]:
        """The regions whose reports the store of that name keeps."""
        return frozenset(region.name for region in self.regions.values() if region.residency == name)

    def with_old_names(self, name: str) -> tuple[str, ...]:
        """A region by the name it has now, then its old names in order; they share one residency. Raises UsageError."""
        if name not in self.regions:
            raise UsageError(f"there is no region {name!r}", todo="regions are " + ", ".join(self.regions))
        now = self.regions[name].alias or name
        return now, *sorted(one.name for one in self.regions.values() if one.alias == now)

    def regional(self, kind: Subject) -> frozenset[str]:
        """Names of the feeds or signatures that some region adds: they are not part of the global bundle."""
        return frozenset(
            entry.name
            for region in self.regions.values()
            for entry in region.policy
            if entry.action == "add" and entry.kind == kind
        )


def load_regions(text: str) -> Regions:
    """Reads ``regions.toml`` strictly: an unknown key is an error, for it may be a misspelt one.

    Raises:
        UsageError: not TOML, a key missing, unknown or of the wrong type, a name that cannot be a role.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"regions.toml: {error}") from error
    _only(document, {"neutral", "regions", "stores"}, "regions.toml")
    neutral = _name(document.get("neutral", "ch"), "neutral")
    tables = document.get("regions")
    if not isinstance(tables, dict) or not tables:
        raise UsageError("regions.toml: no [regions.NAME] table", todo="name at least one region")
    regions = {}
    for name, table in tables.items():
        if not (isinstance(table, dict) and "alias" in table):
            regions[_name(name, "region")] = _region(name, table)
    for name, table in tables.items():
        if name not in regions:
            regions[_name(name, "region")] = _alias(name, table, regions)
    regions = {name: regions[name] for name in tables}
    found = Regions(
        neutral,
        {name: _with_residency(region, neutral) for name, region in regions.items()},
        _stores(document.get("stores", {}), regions),
    )
    names = found.store_names()
    for region in found.regions.values():
        if region.residency not in names:
            raise UsageError(
                f"regions.toml: [regions.{region.name}]: residency {region.residency!r} is no store",
                todo="stores are " + ", ".join(names) + "; [stores.NAME] makes another",
            )
    _check_apart([found.store(name) for name in names])
    return found


def _stores(tables: object, regions: dict[str, Region]) -> dict[str, Store]:
    if not isinstance(tables, dict):
        raise UsageError("regions.toml: stores is a table of tables, written [stores.NAME]")
    stores = {}
    for name, table in tables.items():
        what = f"regions.toml: [stores.{_name(name, 'store')}]"
        if not isinstance(table, dict):
            raise UsageError(f"{what}: not a table")
        _only(table, {"jurisdiction", "path"}, what)
        default = {"jurisdiction": regions[name].jurisdiction} if name in regions else {}
        path = table.get("path")
        stores[name] = Store(
            name,
            _text(default | table, "jurisdiction", what),
            _store_path(name) if path is None else _path(path, what),
        )
    return stores


def _store_path(name: str) -> PurePosixPath:
    return PurePosixPath("reports", name)


def _path(text: object, what: str) -> PurePosixPath:
    path = PurePosixPath(text) if isinstance(text, str) and text.isprintable() else PurePosixPath()
    if path in (PurePosixPath(), PurePosixPath("/")) or ".." in path.parts:
        raise UsageError(f"{what}: path is a directory of its own, absolute or below the origin's, without '..'")
    return path


def _check_apart(stores: list[Store]) -> None:
    for one, other in itertools.permutations(stores, 2):
        if one.path.is_relative_to(other.path):
            raise UsageError(f"regions.toml: the stores {other.name} and {one.name} are in one directory: {one.path}")


def _alias(name: str, table: dict[str, Any], regions: dict[str, Region]) -> Region:
    what = f"regions.toml: [regions.{name}]"
    _only(table, {"alias"}, f"{what}, an alias")
    of = table["alias"]
    if not isinstance(of, str) or of not in regions or regions[of].alias:
        raise UsageError(f"{what}: alias is the name of another region that is none itself")
    return replace(regions[of], name=name, alias=of)


def _with_residency(region: Region, neutral: str) -> Region:
    return region if region.residency else replace(region, residency=neutral)


def _region(name: str, table: object) -> Region:
    what = f"regions.toml: [regions.{name}]"
    if not isinstance(table, dict):
        raise UsageError(f"{what}: not a table")
    _only(table, {"jurisdiction", "wave", "edges", "residency", "policy"}, what)
    wave, edges = table.get("wave", 1), table.get("edges", [])
    if not isinstance(wave, int) or isinstance(wave, bool) or not 1 <= wave <= 99:
        raise UsageError(f"{what}: wave is a number from 1 to 99")
    if not isinstance(edges, list) or not all(
        isinstance(url, str) and url.startswith(("http://", "https://")) for url in edges
    ):
        raise UsageError(f"{what}: edges is a list of http or https URLs")
    policy = table.get("policy", [])
    if not isinstance(policy, list):
        raise UsageError(f"{what}: policy is a list of tables, written [[regions.{name}.policy]]")
    entries = tuple(_entry(entry, what) for entry in policy)
    if len({(entry.kind, entry.name) for entry in entries}) != len(entries):
        raise UsageError(f"{what}: one feed or signature stands in two policies")
    residency = table.get("residency", "")
    return Region(
        name=name,
        jurisdiction=_text(table, "jurisdiction", what),
        wave=wave,
        edges=tuple(edges),
        residency=residency if isinstance(residency, str) else "?",
        policy=entries,
    )


def _entry(entry: object, what: str) -> PolicyEntry:
    if not isinstance(entry, dict):
        raise UsageError(f"{what}: a policy is a table")
    _only(entry, {"action", "kind", "name", "reason"}, f"{what}: policy")
    action, kind = entry.get("action"), entry.get("kind")
    if action not in ("leave-out", "add") or kind not in ("feed", "signature"):
        raise UsageError(f"{what}: a policy has action 'leave-out' or 'add' and kind 'feed' or 'signature'")
    return PolicyEntry(
        cast(Action, action),
        cast(Subject, kind),
        _text(entry, "name", what),
        _text(entry, "reason", what),
    )


def _text(table: dict[str, Any], key: str, what: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_REASON or not value.isprintable():
        raise UsageError(f"{what}: {key} is missing, or not one line of at most {MOST_REASON} characters")
    return value


def _name(name: object, what: str) -> str:
    try:
        check_token(name if isinstance(name, str) else "?", what)
    except MalformedError as error:
        raise UsageError(f"regions.toml: {error.what}") from error
    if name in RESERVED:
        raise UsageError(f"regions.toml: a {what} cannot be named {name!r}: a signed role has that name")
    return str(name)


def _only(table: dict[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(set(table) - known):
        raise UsageError(f"{what}: unknown key {unknown[0]!r}", todo="keys are " + ", ".join(sorted(known)))
