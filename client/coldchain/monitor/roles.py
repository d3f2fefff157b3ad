"""The signed metadata as a monitor sees it: every role that there is, and what changed since the last time. No I/O.

A client follows its own region; a monitor walks all of them, each by the client's own workflow (:mod:`coldchain.tuf.refresh`), from one
consistent set of files: what was fetched once in a run is not asked for again, so all roles are of one timestamp. A role that a client
would refuse is an alert, and the others are read on.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coldchain.canonical import Fields
from coldchain.errors import ColdchainError, ResponseError
from coldchain.evidence import root_policy
from coldchain.limits import LIMITS, Limits
from coldchain.monitor.findings import Alert
from coldchain.tuf.metadata import Metadata, parse_metadata
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.tuf.trusted_set import TrustedSet, pinned_root
from coldchain.verify import ROLLOUT_ROLE, says_who_it_is


@dataclass(slots=True)
class Walk:
    """What a walk found.

    Attributes:
        root: the newest root that was accepted.
        targets: the top-level targets; None when the way there is refused.
        regions: the regions' roles by name.
        files: what to remember for the next run: the trusted files by name.
        alerts: refusals and changes.
        notes: changes since the pinned root, on a first run.
        versions: of every role that was read.
    """

    root: Metadata
    targets: Metadata | None = None
    regions: dict[str, Metadata] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)


def walk(
    stored: Mapping[str, bytes], now: datetime, product: str, limits: Limits = LIMITS
) -> Generator[Fetch, bytes | None, Walk]:
    """Walks all roles. Yields what to fetch; answered with the file's bytes, or None when there is none.

    Args:
        stored: what the last run left; on a first one the pinned ``root.json`` alone.
        now: the time.
        product: whose roles they must be.
        limits: bounds.

    Raises:
        DamagedError: the stored root is none.
        ResponseError: this is a first run, and there is no metadata here: the URL is not a publisher's.
    """
    known: dict[str, bytes | None] = {}
    files = dict(stored)
    first = "timestamp.json" not in stored
    found = Walk(pinned_root(stored["root.json"], limits))
    trusted = yield from _one(found, files, known, now, product, [], first, limits)
    if trusted is not None:
        found.targets = trusted.role("targets")
        found.versions = {one.name: one.version for one in (trusted.timestamp, trusted.snapshot, found.targets)}
        _compare_targets(found, stored.get("targets.json"), limits)
        for name in found.targets.roles:
            walked = yield from _one(found, files, known, now, product, [name], False, limits)
            if walked is None:
                continue
            role = walked.role(name)
            found.versions[name] = role.version
            if name != ROLLOUT_ROLE:
                found.regions[name] = role
    found.versions["root"] = found.root.version
    found.files = files
    return found


def _one(
    found: Walk,
    files: dict[str, bytes],
    known: dict[str, bytes | None],
    now: datetime,
    product: str,
    roles: list[str],
    first: bool,
    limits: Limits,
) -> Generator[Fetch, bytes | None, TrustedSet | None]:
    """One workflow; None when it is refused. ``known`` answers what was fetched in this run already."""
    steps = refresh(dict(files), now, roles, limits, lambda role: says_who_it_is(role, product))
    answer: bytes | None = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as done:
            trusted: TrustedSet = done.value
            return trusted
        except ResponseError as error:
            if first:
                raise
            found.alerts.append(Alert("metadata", error.what))
            return None
        except ColdchainError as error:
            found.alerts.append(Alert("metadata", error.what))
            return None
        if isinstance(step, Fetch):
            if step.path not in known:
                known[step.path] = yield step
            answer = known[step.path]
            continue
        answer = None
        if step.name.startswith("roots/"):
            new = parse_metadata(step.data, "root", limits)
            changes = key_changes(found.root, new, ("root", "targets", "snapshot", "timestamp"))
            said = [f"root {new.version}: {text}" for text in changes]
            if _policy(found.root) != _policy(new):
                text = f"root {new.version} carries another log policy than root {found.root.version}"
                found.notes.append(text) if first else found.alerts.append(Alert("policy", text))
            found.notes += said if first else []
            found.alerts += [] if first else [Alert("keys", text) for text in said]
            found.root = new
        else:
            files[step.name] = step.data


def _policy(root: Metadata) -> bytes | None:
    try:
        return root_policy(root)
    except ColdchainError:
        return b"unknown"


def _compare_targets(found: Walk, stored: bytes | None, limits: Limits) -> None:
    if stored is None or found.targets is None:
        return
    old = parse_metadata(stored, "targets", limits)
    names = tuple(dict.fromkeys([*old.roles, *found.targets.roles]))
    changes = key_changes(old, found.targets, names)
    found.alerts += [Alert("keys", f"targets {found.targets.version}: {text}") for text in changes]


def key_changes(old: Metadata, new: Metadata, names: tuple[str, ...]) -> list[str]:
    """Roles whose keys, threshold or paths differ between two versions of who delegates to them, in words."""
    changes = []
    for name in names:
        before, after = _keys(old, name), _keys(new, name)
        if before != after:
            changes.append(f"role {name}: {_words(before)} became {_words(after)}")
    return changes


_Keys = tuple[int, tuple[str, ...], tuple[str, ...]]


def _keys(metadata: Metadata, name: str) -> _Keys | None:
    role = metadata.roles.get(name)
    if role is None:
        return None
    found = {key.raw.hex() for keyid in role.keyids if (key := metadata.keys.get(keyid)) is not None}
    return role.threshold, tuple(sorted(found)), role.paths


def _words(keys: _Keys | None) -> str:
    if keys is None:
        return "nothing"
    threshold, names, paths = keys
    return f"{threshold} of {', '.join(name[:16] + '…' for name in names)}" + (
        f" for {' '.join(paths)}" if paths else ""
    )


def channels(role: Metadata) -> list[str]:
    """The channels that a region's role speaks of."""
    facts = Fields(Fields(role.signed, f"{role.name}.json").object("coldchain"), f"{role.name}.json: coldchain")
    return list(facts.object("channels", 16))
