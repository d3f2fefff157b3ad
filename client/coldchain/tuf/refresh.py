"""The whole TUF client workflow as a generator: it asks, the caller fetches and writes. No I/O here.

It yields two kinds of step. For :class:`Fetch` the caller sends the file's bytes, or None when the server says that
there is none (404, 403); any failure to fetch is raised by the caller and ends the update. For :class:`Keep` the
caller writes the bytes durably, at once, and sends None. Worked example, a driver in nine lines::

    def drive(steps, get, keep):
        answer = None
        try:
            while True:
                step = steps.send(answer)
                answer = get(step.path, step.max_bytes) if isinstance(step, Fetch) else keep(step.name, step.data)
        except StopIteration as done:
            return done.value

    trusted = drive(refresh(stored, now, ["us", "rollout"]), get, keep)

and what it yields for a first update with one new root::

    Fetch("metadata/2.root.json", 524288)     Keep("roots/2.root.json", …)  Keep("root.json", …)
    Fetch("metadata/3.root.json", 524288)     <- None
    Fetch("metadata/timestamp.json", 16384)   Keep("timestamp.json", …)
    Fetch("metadata/7.snapshot.json", …)      Keep("snapshot.json", …)
    Fetch("metadata/1.targets.json", …)       Keep("targets.json", …)
    Fetch("metadata/42.us.json", …)           Keep("us.json", …)   ...

``Fetch.path`` is relative to the server's base URL, ``Keep.name`` and the names of ``stored`` to the client's
metadata directory. Every step may be the last one (a crash, a lost connection, a refused file): the files kept so far
are a valid start for the next update. Stored files that are damaged count as absent, except the root: that is an
error.

Source: The Update Framework specification 1.0.34, section 5.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from urllib.parse import quote

from coldchain.errors import ColdchainError, NotInstalledError, ResponseError
from coldchain.limits import LIMITS, Limits
from coldchain.tuf.metadata import FileInfo, Metadata, max_bytes
from coldchain.tuf.trusted_set import RoleCheck, TrustedSet


@dataclass(frozen=True, slots=True)
class Fetch:
    """Get ``path`` (relative to the base URL); more than ``max_bytes`` must not be read."""

    path: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Write ``data`` durably as ``name`` (relative to the metadata directory), replacing what is there."""

    name: str
    data: bytes


Step: TypeAlias = Fetch | Keep
Steps: TypeAlias = Generator[Step, bytes | None, TrustedSet]


def refresh(
    stored: Mapping[str, bytes],
    now: datetime,
    roles: Sequence[str],
    limits: Limits = LIMITS,
    check: RoleCheck | None = None,
) -> Steps:
    """The detailed client workflow, up to and including the given delegated roles.

    Args:
        stored: what earlier updates kept, by name; ``root.json`` must be there.
        now: the start of this update (5.1), with a time zone.
        roles: roles that the top-level targets delegates to, e.g. ``["us", "rollout"]``.
        limits: bounds on foreign bytes.
        check: asked about every delegated role before it is believed and kept.

    Returns:
        Everything verified, as the generator's value.

    Raises:
        NotInstalledError: no root is pinned.
        DamagedError: the pinned root is damaged.
        ResponseError: the server does not have a file that the metadata names.
        VerificationError, NewerFormatError: what came was refused; what was kept before stays good.
    """
    # 5.2 Load trusted root metadata.
    if "root.json" not in stored:
        raise NotInstalledError("no root is pinned", todo="run `coldchain init DIR --root root.json`")
    trusted = TrustedSet(stored["root.json"], now, limits, check)
    yield from _update_root(trusted)
    # 5.3.11 happens in recall: stored files from before a rotation of their keys are forgotten.
    trusted.recall(stored.get("timestamp.json"), stored.get("snapshot.json"))
    yield from _update_timestamp(trusted, stored)
    yield from _update_snapshot(trusted)
    yield from _update_targets(trusted, stored, "targets")
    for name in roles:
        yield from _update_targets(trusted, stored, name)
    return trusted


def search(
    trusted: TrustedSet, stored: Mapping[str, bytes], path: str
) -> Generator[Step, bytes | None, tuple[Metadata, FileInfo] | None]:
    """5.6.7: a pre-order depth-first search for a target through all delegations, fetching roles as it goes.

    Coldchain's own layout needs no search (a region's role is known by name), but a path may be asked for that way.

    Args:
        trusted: the result of :func:`refresh`.
        stored: as for :func:`refresh`.
        path: the target's path.

    Returns:
        The role that speaks for the path and what it says, or None.
    """
    pending: list[tuple[str, Metadata | None]] = [("targets", None)]
    visited: set[str] = set()
    while pending:
        name, delegator = pending.pop()
        # 5.6.7.1 A role is visited once, and only so many of them.
        if name in visited or len(visited) >= trusted.limits.delegations:
            continue
        visited.add(name)
        yield from _update_targets(trusted, stored, name, delegator)
        role = trusted.role(name, delegator)
        if path in role.targets:
            return role, role.targets[path]
        # 5.6.7.2 Delegations in their order; a terminating one that covers the path ends the search after itself.
        covering: list[tuple[str, Metadata | None]] = []
        for delegation in role.roles.values():
            if delegation.matches(path):
                covering.append((delegation.name, role))
                if delegation.terminating:
                    pending.clear()
                    break
        pending.extend(reversed(covering))
    return None


def _update_root(trusted: TrustedSet) -> Generator[Step, bytes | None, None]:
    for _ in range(trusted.limits.root_rotations):
        # 5.3.3 Try version N+1; when it is not there, the newest root is reached.
        version = trusted.root.version + 1
        data = yield Fetch(f"metadata/{version}.root.json", trusted.limits.root_bytes)
        if data is None:
            break
        trusted.update_root(data)  # 5.3.4 to 5.3.7
        # 5.3.8 Persist; the numbered copy first, so that the chain from the pinned root on is never missing a link.
        yield Keep(f"roots/{version}.root.json", data)
        yield Keep("root.json", data)
    # 5.3.10 Freeze. 5.3.12 (consistent snapshots) is read off the root where names are made.
    trusted.check_root_time()


def _update_timestamp(trusted: TrustedSet, stored: Mapping[str, bytes]) -> Generator[Step, bytes | None, None]:
    # 5.4.1
    data = yield from _fetch("metadata/timestamp.json", trusted.limits.timestamp_bytes)
    # 5.4.2 to 5.4.4; 5.4.5 Persist, unless the trusted one of the same version stays.
    if trusted.update_timestamp(data).raw == data != stored.get("timestamp.json"):
        yield Keep("timestamp.json", data)


def _update_snapshot(trusted: TrustedSet) -> Generator[Step, bytes | None, None]:
    if trusted.stored_snapshot_is_current():
        return
    # 5.5.1
    named = trusted.timestamp.files["snapshot.json"]
    data = yield from _fetch(_published(trusted, "snapshot", named), _bound(named, trusted.limits.snapshot_bytes))
    # 5.5.2 to 5.5.6, 5.5.7 Persist.
    trusted.update_snapshot(data)
    yield Keep("snapshot.json", data)


def _update_targets(
    trusted: TrustedSet, stored: Mapping[str, bytes], name: str, delegator: Metadata | None = None
) -> Generator[Step, bytes | None, None]:
    if trusted.loaded(name, delegator):
        return
    file_name = f"{quote(name, safe='')}.json"
    if file_name in stored:
        # The same checks as for a fetched file; one that fails is out of date or damaged, and is fetched anew.
        try:
            trusted.update_targets(name, stored[file_name], delegator)
        except ColdchainError:
            pass
        else:
            return
    # 5.6.1
    named = trusted.named(name)
    data = yield from _fetch(_published(trusted, name, named), _bound(named, max_bytes("targets", trusted.limits)))
    # 5.6.2 to 5.6.5, 5.6.6 Persist.
    trusted.update_targets(name, data, delegator)
    yield Keep(file_name, data)


def _fetch(path: str, most: int) -> Generator[Step, bytes | None, bytes]:
    data = yield Fetch(path, most)
    if data is None:
        raise ResponseError(f"the server does not have {path}", todo="the server is half published; try again later")
    return data


def _published(trusted: TrustedSet, name: str, named: FileInfo) -> str:
    """5.3.12: with consistent snapshots the published name carries the version (specification 6.2)."""
    plain = f"{quote(name, safe='')}.json"
    return f"metadata/{named.version}.{plain}" if trusted.root.consistent_snapshot else f"metadata/{plain}"


def _bound(named: FileInfo, limit: int) -> int:
    return limit if named.length is None else min(named.length, limit)
