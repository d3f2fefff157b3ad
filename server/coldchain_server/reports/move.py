"""Moves the reports of a region from the store that keeps them to another one, with the public log told before it takes effect.

::

    copy      piece by piece into the new store, which does not count; reports go on coming into the old one
    compare   while nothing is added for a moment: counts and digests of both are equal, or it ends here
    log       the entry (:mod:`coldchain.residency`) is appended and cosigned by the quorum; without it, it waits here
    catch up  nothing is added any more to the old one (it is sealed); what came since is copied; compared again
    switch    one line of regions.toml names the new store: the whole move takes effect by one rename
    compare   what the new store has on its disk, once more; then it takes reports
    remove    what the old one holds, if it is still what was compared: the last step

Every report is in exactly one place that counts, at every instant: the store that regions.toml names. A copy counts nothing before the
switch and the original nothing after it; a report that comes while the old store is sealed is refused with "try again", and is
counted where it is told to go next, once, since the numbers of batches move along. All steps find out what was done and go on, however
the one before ended (:mod:`coldchain_server.reports.moving`). From ``logged`` on no key and no witness is needed: ``serve``
ends a move by itself that died there.

Why the log comes before the switch: nobody's reports count in another jurisdiction before everybody can read that they will.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from coldchain.errors import (
    BusyError,
    ColdchainError,
    EvidenceError,
    InternalError,
    ResidencyError,
    StateError,
    UsageError,
)
from coldchain.residency import Move, Place, parse_move
from coldchain.tlog.offline import verify_proof
from coldchain_server.assembly.regions import Regions
from coldchain_server.assembly.residency_line import set_residency
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.log.public_log import PublicLog
from coldchain_server.release.log import Witnesses, append_entry
from coldchain_server.reports.copying import NOTHING, copy_region, total
from coldchain_server.reports.moving import (
    Moving,
    Total,
    all_moving,
    explained,
    finish_moving,
    forget_moving,
    read_moving,
    sweep_moving,
    write_moving,
)
from coldchain_server.reports.store import ReportStore
from coldchain_server.reports.stores import holds, made_stores, open_store
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import log_signer, policy_of
from coldchain_server.signing.roles import load_state
from coldchain_server.storage.durable import disk, make_directory

Say = Callable[[str], None]
SAID_EVERY = 100_000
GO_ON = "coldchain-server residency move --resume"


@dataclass(frozen=True, slots=True)
class Signing:
    """What a move needs to be logged: the keyring with the log's key, the witnesses, and a clock (UTC)."""

    keyring: Keyring
    witnesses: Witnesses
    now: Callable[[], datetime]


@contextmanager
def mover(home: Home) -> Iterator[None]:
    """Held by the one process that moves reports. Raises BusyError when another one does."""
    make_directory(home.residency)
    path = home.residency / "lock"
    with disk(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError("reports are being moved by another process", todo="try again when it is done") from None
        sweep_moving(home)
        yield
    finally:
        os.close(handle)


def begin(home: Home, region: str, target: str) -> Moving | None:
    """The move of a region (by whatever name) to a store: the one on its way there, or a new one; None when it is there.

    The caller is the mover.

    Raises:
        UsageError: there is no such region or store.
        StateError: it is on its way to another one, or reports lie where no move put them.
    """
    regions = home.regions()
    names = regions.with_old_names(region)
    moving = read_moving(home, names[0])
    if moving is not None:
        if moving.target != target:
            raise StateError(f"the reports of {names[0]} are on their way to store {moving.target}", todo=GO_ON)
        return moving
    if target not in regions.store_names():
        raise UsageError(
            f"there is no store {target!r}",
            todo="stores are " + ", ".join(regions.store_names()) + "; [stores.NAME] in regions.toml makes another",
        )
    source = regions.regions[names[0]].residency
    check_nowhere_else(home, regions, names, source)
    if source == target:
        return None
    moving = Moving(names[0], names[1:], source, target)
    with open_store(home, source, regions=regions), open_store(home, target, regions=regions):
        write_moving(home, moving)  # both can be opened; from here on rows of the region may lie in the new one
    return moving


def check_nowhere_else(home: Home, regions: Regions, names: Sequence[str], source: str) -> None:
    """Raises StateError where reports of these regions lie in another store than ``source``, and no move explains them."""
    for other in made_stores(home):
        found = [name for name in names if other != source and holds(home, other, name, regions)]
        if any(not explained(home, name, source, other) for name in found):
            raise StateError(
                f"store {other} holds reports of {', '.join(found)}, which are kept in {source}",
                kept="nothing was moved",
                todo=f'if regions.toml was edited, write residency = "{other}" again; coldchain-server residency show has more',
            )


async def go_on(
    home: Home, catalogue: Catalogue, moving: Moving, signing: Signing, say: Say = lambda _: None
) -> Moving:
    """Takes a move to its end, from wherever it stands. The caller is the mover.

    Args:
        home: the origin.
        catalogue: for the publisher's lock.
        moving: the move.
        signing: for its entry in the log.
        say: told what happens.

    Returns:
        The finished move, with the index of its entry and the totals at the switch.

    Raises:
        EvidenceError: no quorum of witnesses; nothing took effect.
        ResidencyError: two copies are not equal; what counts is as it was.
        StateError: regions.toml says something that does not fit the move.
        BusyError: a publisher is at work.
        StorageError: a store is away, or the disk refused.
    """
    if moving.step == "copying":
        log = PublicLog(home.storage, policy_of(await load_state(home.storage)).log_keys[0])
        first = (await log.checkpoint()).size
        moving = copy(home, moving, first, signing.now, say)
    if moving.step == "logging":
        _check(home, home.regions(), moving, moving.source)
        say(f"{moving.region}: asking the witnesses")
        async with catalogue.publisher():
            moving = await _log(home, moving, signing)
    return finish(home, moving, say)


def finish(home: Home, moving: Moving, say: Say = lambda _: None) -> Moving:
    """The steps after the log. Raises as :func:`go_on`."""
    moving = switch(home, moving, say)
    settle(home, moving, say)
    remove(home, moving, say)
    finish_moving(home, moving)
    return moving


def finish_logged(home: Home) -> list[Moving]:
    """Ends the moves that are in the log and that nobody is at work on; what ``serve`` does by itself. Returns them.

    Raises:
        ColdchainError: as :func:`go_on`, when one of them could not be ended; the others were.
    """
    if not any(one.step in ("logged", "switching") for one in all_moving(home)):
        return []
    ended: list[Moving] = []
    refused: list[ColdchainError] = []
    try:
        with mover(home):
            for one in all_moving(home):
                if one.step in ("logged", "switching"):
                    try:
                        ended.append(finish(home, one))
                    except ColdchainError as error:  # which is no reason for the others to wait
                        refused.append(error)
    except BusyError:
        return []
    if refused:
        raise refused[0]
    return ended


def abandon(home: Home, region: str) -> Moving:
    """Gives up a move that nothing public says yet: its copy is removed. The caller is the mover.

    Raises:
        StateError: there is none, or it may be in the log already.
        StorageError: the new store is away, or the disk refused.
    """
    name = home.regions().with_old_names(region)[0]
    moving = read_moving(home, name)
    if moving is None:
        raise StateError(f"no move of {name} is on its way", todo="coldchain-server residency show")
    if moving.step != "copying":
        raise StateError(f"the move of {name} is in the public log, or will be", todo=GO_ON)
    with open_store(home, moving.target) as store, store.still():
        for one in moving.names:
            store.remove(one)
            store.unseal(one)
    forget_moving(home, moving)
    return moving


# -- the steps


def copy(home: Home, moving: Moving, first: int, now: Callable[[], datetime], say: Say) -> Moving:
    """Copies, compares, and makes the entry; ``first`` is the size of the log."""
    regions = home.regions()
    _check(home, regions, moving, moving.source)
    with _stores(home, moving, regions) as (source, target):
        with target.still():
            for name in moving.names:
                target.seal(name)
        copy_all(source, target, moving, say)
        with source.still():  # nobody adds meanwhile
            copy_all(source, target, moving, say)
            found = compare(moving, source, target)
            entry = Move(
                home.settings().product,
                moving.region,
                _place(regions, moving.source),
                _place(regions, moving.target),
                found.reports,
                found.rows,
                found.sha256,
                now().replace(microsecond=0),
                moving.old_names,
            )
            moving = replace(moving, step="logging", entry=entry.encode(), first=first)
            write_moving(home, moving)
    say(f"{moving.region}: {found.reports:,} reports in {found.rows:,} rows are copied, and equal")
    return moving


async def _log(home: Home, moving: Moving, signing: Signing) -> Moving:
    assert moving.entry is not None
    policy = policy_of(await load_state(home.storage))
    log = PublicLog(home.storage, policy.log_keys[0])
    sign = log_signer(signing.keyring, log.key)
    head = await log.checkpoint()
    await signing.witnesses.check_not_behind(policy, log.key, head.size, log.root_at)
    try:
        index, proof = await append_entry(
            log, sign, policy, signing.witnesses, moving.entry, signing.now(), first=moving.first
        )
        verify_proof(moving.entry, proof, policy, signing.now())
    except EvidenceError as error:
        error.kept = f"the reports of {moving.region} stay in store {moving.source} and count there, new ones too"
        error.todo = f"when the witnesses answer: {GO_ON}"
        raise
    moving = replace(moving, step="logged", index=index)
    write_moving(home, moving)
    return moving


def switch(home: Home, moving: Moving, say: Say) -> Moving:
    """Catches up and lets regions.toml name the new store."""
    regions = home.regions()
    _check(home, regions, moving, *([moving.target] if moving.step == "switching" else []), moving.source)
    if regions.regions[moving.region].residency == moving.target:
        return moving
    with _stores(home, moving, regions) as (source, target):
        copy_all(source, target, moving, say)  # most of what came, before anybody has to wait
        with source.still():
            copy_all(source, target, moving, say)
            moving = replace(moving, step="switching", final=compare(moving, source, target))
            write_moving(home, moving)
            for name in moving.names:
                source.seal(name)
    home.write_regions(set_residency(home.regions_text(), moving.region, moving.target))
    say(f"{moving.region}: kept in store {moving.target} from now on")
    return moving


def settle(home: Home, moving: Moving, say: Say) -> None:
    """Compares what is on the new store's disk with what was compared before the switch, and lets the new one take reports.

    A copy that went bad meanwhile is made again, from an original that did not.
    """
    with _stores(home, moving, home.regions()) as (source, target):
        if not set(moving.names) & set(target.sealed()):
            return  # it took reports already, so the two differ
        if total(target, moving.names) != moving.final:
            if total(source, moving.names) != moving.final:
                raise _not_as_compared(moving, "and its copy neither")
            copy_all(source, target, moving, say)
            compare(moving, source, target)
        with target.still():
            for name in moving.names:
                target.unseal(name)


def remove(home: Home, moving: Moving, say: Say) -> None:
    """Removes what the old store holds, if it is what was compared, or nothing any more."""
    with _stores(home, moving, home.regions()) as (source, _):
        if total(source, moving.names) not in (moving.final, NOTHING):
            raise _not_as_compared(moving, f"its copy in {moving.target} was, and counts")
        with source.still():
            for name in moving.names:
                source.remove(name)
        if total(source, moving.names) != NOTHING:
            raise InternalError(f"store {moving.source} still holds reports of {moving.region}")
    say(f"{moving.region}: store {moving.source} holds nothing of it any more")


def copy_all(source: ReportStore, target: ReportStore, moving: Moving, say: Say) -> None:
    """Makes the new store's reports equal to the old one's."""
    seen = said = 0

    def progress(rows: int) -> None:
        nonlocal seen, said
        seen += rows
        if seen >= said + SAID_EVERY:
            said = seen
            say(f"{moving.region}: {seen:,} rows")

    for name in moving.names:
        copy_region(source, target, name, progress)


def compare(moving: Moving, source: ReportStore, target: ReportStore) -> Total:
    """What both stores keep of the region. Raises ResidencyError when it is not the same."""
    original, copied = total(source, moving.names), total(target, moving.names)
    if original != copied:
        raise ResidencyError(
            f"region {moving.region}: store {moving.source} holds {original.reports:,} reports ({original.sha256[:16]}…), "
            f"its copy in {moving.target} {copied.reports:,} ({copied.sha256[:16]}…)",
            kept=f"the reports in store {moving.source}",
            todo=f"check the disk of store {moving.target}, then: {GO_ON}",
        )
    return original


def _not_as_compared(moving: Moving, copy: str) -> ResidencyError:
    return ResidencyError(
        f"region {moving.region}: what store {moving.source} holds is not what was compared before the switch, {copy}",
        kept="both stores, as they are",
        todo="find out who wrote there; restore that store from a backup of before, then: " + GO_ON,
    )


def _check(home: Home, regions: Regions, moving: Moving, *stores: str) -> None:
    """Raises StateError where regions.toml does not fit the move."""
    if moving.region not in regions.regions or regions.with_old_names(moving.region) != moving.names:
        raise StateError(
            f"regions.toml: {moving.region} and its old names are not what they were when its reports began to move",
            kept="the reports, where regions.toml says",
            todo=f"the names were {', '.join(moving.names)}: put them back, then: {GO_ON}",
        )
    residency = regions.regions[moving.region].residency
    if residency not in stores:
        raise StateError(
            f"regions.toml: the residency of {moving.region} was changed to {residency} by hand while its reports move",
            kept="the reports, where they are",
            todo=f'write residency = "{moving.source}" again, then: {GO_ON}',
        )
    check_nowhere_else(home, regions, moving.names, residency)


@contextmanager
def _stores(home: Home, moving: Moving, regions: Regions) -> Iterator[tuple[ReportStore, ReportStore]]:
    """The old store and the new one. Nothing is added to either here."""
    with (
        open_store(home, moving.source, frozenset(), regions) as source,
        open_store(home, moving.target, frozenset(), regions) as target,
    ):
        yield source, target


def _place(regions: Regions, name: str) -> Place:
    return Place(name, regions.store(name).jurisdiction)


def logged_move(moving: Moving) -> Move:
    """What the log says of a move that came that far."""
    assert moving.entry is not None
    return parse_move(moving.entry)
