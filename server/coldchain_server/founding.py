"""Making an origin's directory: settings, regions, catalogue, and the key ceremony. It is there whole, or not at all.

Everything is made in ``HOME/.init`` and then moved up, ``root.json`` last: that file is what makes a directory an origin
(:attr:`~coldchain_server.home.Home.exists`). A process that dies before ``.init/root.json`` is there leaves keys that never signed
anything in the open, and the next try starts again; one that dies later leaves moves that the next try finishes, with the keys
that are there. A directory that holds anything else is never touched: its keys may be somebody's only ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coldchain.errors import StateError
from coldchain_server.home import ROLLOUT, Home, load_settings
from coldchain_server.release.schedule import DEFAULT as DEFAULT_SCHEDULES
from coldchain_server.signing.ceremony import hold_ceremony
from coldchain_server.signing.key_files import MODERATE, Strength
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.log_policy import NO_WITNESS
from coldchain_server.storage.durable import disk, fsync_directory, make_directory, move, remove, write_file

_UNFINISHED = ".init"
_NOT_OURS = frozenset({_UNFINISHED, "lost+found"})  # the latter is what an empty file system holds


@dataclass(frozen=True, slots=True)
class Founding:
    """What a new origin starts with: the texts of its two files, who opens its keys, how hard guessing is made; and the log.

    ``log_name`` is the public log's name (empty: made from the product's), ``policy`` the witnesses and the quorum for it.
    """

    settings: str
    regions: str
    passphrase: Callable[[], str]
    strength: Strength = MODERATE
    log_name: str = ""
    policy: bytes = NO_WITNESS


async def found(directory: Path, founding: Founding, *, now: datetime) -> Home:
    """Makes an origin in ``directory``, which is missing or empty, or holds what an earlier try left.

    Args:
        directory: the origin's.
        founding: what it starts with; not looked at where an earlier try had come so far that only moves are left.
        now: when the roles' lives begin.

    Raises:
        StateError: it is an origin already, or holds other files.
        UsageError: settings or regions are not in order.
        KeyringError: there is no passphrase.
        StorageError: the disk refused.
    """
    home = Home(directory)
    if home.exists:
        raise StateError(f"{directory.name} is an origin already", kept="its keys and releases")
    make_directory(directory)
    unfinished = directory / _UNFINISHED
    if not Home(unfinished).exists:
        with disk(directory):
            others = sorted(path.name for path in directory.iterdir() if path.name not in _NOT_OURS)
        if others:
            raise StateError(
                f"{directory.name} is no origin and not empty: it holds {', '.join(others[:3])}",
                kept="what is in it",
                todo="name a new directory, or restore root.json from a backup",
            )
        remove(unfinished)
        try:
            await _make(Home(unfinished), founding, now)
        except BaseException:
            remove(unfinished)
            raise
    with disk(unfinished):
        parts = sorted(unfinished.iterdir(), key=lambda path: path.name == "root.json")
    for part in parts:
        move(part, directory / part.name)
    remove(unfinished)
    with disk(directory):
        fsync_directory(directory)
    return home


async def _make(home: Home, founding: Founding, now: datetime) -> None:
    settings = load_settings(founding.settings)
    make_directory(home.directory)
    write_file(home.directory / "settings.toml", founding.settings.encode())
    write_file(home.directory / "regions.toml", founding.regions.encode())
    write_file(home.directory / ROLLOUT, DEFAULT_SCHEDULES.encode())
    names = list(home.regions().regions)
    async with home.catalogue():
        keyring = Keyring(home.keys, founding.passphrase)
        root = await hold_ceremony(
            keyring,
            home.storage,
            names,
            product=settings.product,
            now=now,
            log_name=founding.log_name or f"{settings.product}-log",
            policy=founding.policy,
            strength=founding.strength,
        )
    write_file(home.directory / "root.json", root)
