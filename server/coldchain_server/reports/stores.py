"""Which store keeps the reports of which region: the one that ``residency`` in ``regions.toml`` names, by default the neutral region's.

::

    HOME/reports/ch/reports.sqlite      of the regions whose residency is ch, if [stores.ch] names no other place
    HOME/reports/ch/store.json          whose store it is
    HOME/residency/stores/ch.json       the same bytes: the store was made, and must be found again

A store may be a volume in another jurisdiction. When that is not mounted its directory is empty, and a program that then made a new
store there would keep reports on the wrong disk, in the wrong country. So a store that was made once is opened only where its own
``store.json`` lies, byte for byte as remembered here. A store's first use makes it.

Reports of a region are added to its store and to no other. That holds against a hand that edits ``residency`` while reports lie in the
store from before: nothing is added until the line is back; ``residency move`` changes it, and takes the reports along
(:mod:`coldchain_server.reports.move`).
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields
from coldchain.errors import ColdchainError, MalformedError, StateError, StorageError, UsageError
from coldchain_server.assembly.regions import Regions
from coldchain_server.home import Home
from coldchain_server.reports.moving import all_moving, explained
from coldchain_server.reports.store import FILE, ReportStore
from coldchain_server.storage.durable import disk, make_directory, remove, sweep, write_file

MARK: Final = "store.json"
FORMAT: Final = "coldchain-store-1"
_MOST_MARK: Final = 1024


def store_name(home: Home, region: str) -> str:
    """The store that keeps the reports of this region. Raises UsageError for a region that regions.toml does not name."""
    return _residency(home.regions(), region)


def _residency(regions: Regions, region: str) -> str:
    if region not in regions.regions:
        raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(regions.regions))
    return regions.regions[region].residency


def store_directory(home: Home, name: str, regions: Regions | None = None) -> Path:
    """Where the store of this name is.

    Raises:
        UsageError: its path leads into the published tree, or to something else that is the origin's.
    """
    path = home.directory / (regions or home.regions()).store(name).path
    real = path.resolve()
    ours = (home.public, home.keys, home.drafts, home.changes, home.gate, home.lint, home.encoded, home.residency)
    for one in (*ours, home.content.directory):
        if real.is_relative_to(one.resolve()) or one.resolve().is_relative_to(real):
            raise UsageError(f"regions.toml: [stores.{name}]: {path} is where the origin keeps its {one.name}")
    return path


def report_store(home: Home, region: str) -> ReportStore:
    """The store that keeps this region's reports now, open; who has it closes it. Reports of other stores' regions it does not take.

    Raises:
        UsageError: regions.toml is not in order, or does not name the region.
        StateError: reports of the region lie in another store, and no move put them there.
        StorageError: the store cannot be opened.
    """
    error: StateError | None = None
    for _ in range(2):  # a move may have ended between two of these looks
        regions = home.regions()
        name = _residency(regions, region)
        error = _elsewhere(home, region, name, regions)
        if error is None:
            return open_store(home, name, regions.kept_in(name), regions)
    assert error is not None
    raise error


def _elsewhere(home: Home, region: str, name: str, regions: Regions) -> StateError | None:
    """What is wrong when reports of the region lie in another store than ``name``, and no move put them there."""
    for other in made_stores(home):
        if other != name and holds(home, other, region, regions) and not explained(home, region, name, other):
            return StateError(
                f"regions.toml says that the reports of {region} are in store {name}, and some are in {other}",
                kept="what was counted, where it is; nothing is added",
                todo=f'write residency = "{other}" again, then: coldchain-server residency move --region {region} --to {name}',
            )
    return None


def holds(home: Home, name: str, region: str, regions: Regions) -> bool:
    """Whether a store keeps anything of a region; not, as far as anybody can tell here, when it cannot be opened."""
    try:
        with open_store(home, name, regions=regions) as store:
            return store.holds(region)
    except ColdchainError:
        return False  # a volume that is away is no reason to refuse reports whose own store is here


def open_store(
    home: Home, name: str, takes: frozenset[str] | None = None, regions: Regions | None = None
) -> ReportStore:
    """A store by its name, open; who has it closes it.

    Args:
        home: the origin.
        name: of the store; it is made where it never was.
        takes: the regions whose reports may be added; None for any.
        regions: regions.toml, if it is read already.

    Raises:
        UsageError: its path is not in order.
        StorageError: it is not where it was made, or cannot be opened.
    """
    directory = store_directory(home, name, regions)
    known = _read(_record(home, name))
    if known is None:
        known = _make(home, name, directory)
    if _read(directory / MARK) != known:
        raise StorageError(
            f"store {name} is not in {directory}",
            kept="nothing was written there",
            todo="is its volume mounted? If you moved the store, its path in regions.toml must say where to",
        )
    return ReportStore.open(directory, takes)


def retire_store(home: Home, name: str) -> Path:
    """Takes away an empty store that nothing is kept in any more, so that its volume may go. The caller is the mover.

    Returns:
        Where it was.

    Raises:
        StateError: a region's reports are kept there, or on their way there, or something lies there.
        StorageError: it cannot be opened, so that nobody knows whether it is empty.
    """
    regions = home.regions()
    if name not in made_stores(home):
        raise StateError(f"there is no store {name!r} that was ever used", todo="coldchain-server residency show")
    users = sorted(regions.kept_in(name)) or [
        one.region for one in all_moving(home) if name in (one.source, one.target)
    ]
    directory = store_directory(home, name, regions)
    with open_store(home, name, frozenset(), regions) as store:
        if users or store.regions():
            raise StateError(
                f"store {name} is in use by {', '.join(users or store.regions())}",
                kept="the store",
                todo="coldchain-server residency move --region NAME --to ANOTHER",
            )
    remove(_record(home, name))
    for file in (FILE, MARK):  # empty; what a crash leaves of it here is a new store's beginning
        remove(directory / file)
    return directory


def made_stores(home: Home) -> list[str]:
    """The names of the stores that were made, whatever regions.toml says now."""
    folder = home.residency / "stores"
    with disk(folder):
        return sorted(path.stem for path in folder.glob("[a-z]*.json")) if folder.is_dir() else []


def _record(home: Home, name: str) -> Path:
    return home.residency / "stores" / f"{name}.json"


def _make(home: Home, name: str, directory: Path) -> bytes:
    """Marks the store's place, then remembers that it was made; a crash in between is made good by the next use."""
    record = _record(home, name)
    make_directory(record.parent)
    with _alone(record.parent / "lock"):
        known = _read(record)
        if known is not None:
            return known
        for path in (record, directory / MARK):
            sweep(path)
        mark = _read(directory / MARK)
        if mark is None:
            make_directory(directory)
            mark = canonical.encode({"format": FORMAT, "store": name, "id": secrets.token_hex(16)})
            write_file(directory / MARK, mark)
        elif _owner(mark) != name:
            raise StorageError(
                f"{directory} is another store: {mark[:200]!r}", todo="compare the paths in regions.toml"
            )
        write_file(record, mark)
        return mark


def _owner(mark: bytes) -> str | None:
    try:
        fields = Fields(canonical.read_canonical(mark, MARK), MARK)
        fields.constant("format", FORMAT)
        return fields.text("store", 64)
    except MalformedError:
        return None


def _read(path: Path) -> bytes | None:
    with disk(path):
        try:
            with path.open("rb") as file:
                return file.read(_MOST_MARK)
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two first uses at one time make one store."""
    with disk(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with disk(path):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
