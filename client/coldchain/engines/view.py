"""An engine's view of the installed bundles: a directory with its own sections and nothing else, switched by one link.

::

    VIEW/sets/42-5c1f0a9e33b07d12/     the sections of one version that are meant for the engine
    VIEW/sets/41-…                     the last set that it was seen to run, as long as the new one is not proved
    VIEW/sets/new/                     under construction
    VIEW/current -> sets/42-…          what the engine is pointed at; the only thing that an activation changes

The sections are second names of the files in ``versions/`` (hard links; copies where the view is on another file system), so a view
costs no space, and removing a version takes nothing from an engine that still runs it. They are hashed before anything loads them.
A set is built under another name and renamed, so one that has its name is whole. clamd reads every file of its database directory,
those that begin with a dot too, but no sub-directory: work in progress is never in a directory that is named by ``current``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from coldchain.bundle.description import Section
from coldchain.errors import DamagedError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory
from coldchain.install.durable import Folder
from coldchain.install.versions import Version, check_section, parse_version

CURRENT: Final = "current"
SETS: Final = "sets"
NEW: Final = "new"


class View:
    """The view at ``path``. Whoever changes it holds the lock of the client's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.current = path / CURRENT

    def make(self) -> None:
        """Makes its directories, and removes what a killed process left half-made.

        Raises:
            DamagedError: something else stands in the place of a directory.
            StorageError: the disk refused.
        """
        durable.make_directory(self.path)
        with self._folder() as here:
            here.make(SETS)
            here.sweep()
            with here.folder(SETS) as sets:
                for name in sets.names():
                    if parse_version(self.path / name) is None:
                        sets.remove(name)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Folder]:
        with durable.open_folder(self.path) as here:
            yield here

    def linked(self) -> Version | None:
        """The set that ``current`` names; None without the link, or when the set is gone.

        Raises:
            DamagedError: the link is none that this program makes.
        """
        with self._folder() as here:
            target = here.read_link(CURRENT)
        if target is None:
            return None
        found = parse_version(self.path / target)
        if found is None or target != f"{SETS}/{found.name}":
            todo = "remove it and run `coldchain update`"
            raise DamagedError(f"{self.current} leads to {target[:200]!r}", todo=todo)
        return found if found.path.is_dir() else None

    def sets(self) -> list[Version]:
        """The whole sets, of the newest release first."""
        with self._folder() as here, here.folder(SETS) as sets:
            found = [one for name in sets.names() if (one := parse_version(self.path / SETS / name)) is not None]
        return sorted(found, key=lambda one: (one.release, one.name), reverse=True)

    def build(self, directory: ClientDirectory, version: Version, sections: Sequence[Section]) -> Version:
        """Makes a set of these sections of an installed version; nothing names it yet.

        Raises:
            DamagedError: a section is not as it was signed.
            StorageError: the disk refused.
        """
        with self._folder() as here, here.folder(SETS) as sets, directory.folder("versions", version.name) as old:
            sets.remove(NEW)
            sets.remove(version.name)
            sets.make(NEW)
            with sets.folder(NEW) as new:
                for section in sections:
                    if old.look(section.name) is None:
                        problem: str | None = f"{section.name} is missing"
                    else:
                        new.link(section.name, old, section.name)
                        problem = check_section(new, section)
                    if problem:
                        todo = "run `coldchain update DIR --repair`"
                        raise DamagedError(f"release {version.release} is damaged: {problem}", todo=todo)
                new.sync()
            sets.move(NEW, sets, version.name)
        return Version(self.path / SETS / version.name, version.release, version.prefix)

    def switch(self, to: Version) -> None:
        """Lets ``current`` name another set, in one step. Raises StorageError; then it names the one from before."""
        with self._folder() as here:
            here.replace_symlink(CURRENT, f"{SETS}/{to.name}")

    def tidy(self, keep: Collection[str]) -> None:
        """Removes the sets of other names."""
        with self._folder() as here, here.folder(SETS) as sets:
            for name in sets.names():
                if name not in keep:
                    sets.remove(name)
