from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.errors import KeyringError, StateError, UsageError
from coldchain_server.founding import Founding, found
from coldchain_server.home import Home
from coldchain_server.signing.key_files import DEMO
from tests.client.tuf.repository import NOW
from tests.server import origins


def founding(settings: str = origins.SETTINGS, regions: str = origins.REGIONS) -> Founding:
    return Founding(settings, regions, lambda: origins.PASSPHRASE, DEMO)


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("start", ["missing", "deeply missing", "empty", "a new file system"])
async def test_an_origin_is_made_whole(memory: Path, start: str) -> None:
    directory = memory / ("a/b/origin" if start == "deeply missing" else "origin")
    if start in ("empty", "a new file system"):
        directory.mkdir()
    if start == "a new file system":
        (directory / "lost+found").mkdir()
    home = await found(directory, founding(), now=NOW)
    assert home.exists
    assert {path.name for path in directory.iterdir()} - {"lost+found"} == {
        *("settings.toml", "regions.toml", "rollout.toml", "root.json", "keys", "catalogue.sqlite", "public"),
    }
    assert list(home.regions().regions) == ["us", "jp"]
    assert await origins.release(home, origins.FIRST) == 1
    assert origins.read_all(home) == 1


async def test_an_origin_is_not_made_twice(new_home: Home) -> None:
    before = everything(new_home.directory)
    with pytest.raises(StateError, match="is an origin already") as caught:
        await found(new_home.directory, founding(), now=NOW)
    assert caught.value.kept == "its keys and releases"
    assert everything(new_home.directory) == before


async def test_what_is_left_of_an_origin_is_not_touched(new_home: Home) -> None:
    """The root is gone, by a mistake or a bad restore; its keys may be the only ones."""
    (new_home.directory / "root.json").unlink()
    before = everything(new_home.directory)
    with pytest.raises(StateError, match="is no origin and not empty") as caught:
        await found(new_home.directory, founding(), now=NOW)
    assert "backup" in caught.value.todo
    assert everything(new_home.directory) == before


@pytest.mark.parametrize(
    ("settings", "regions"),
    [
        ("nonsense = 1\n", origins.REGIONS),
        (origins.SETTINGS, "[regions.root]\njurisdiction = 'x'\n"),
        (origins.SETTINGS, ""),
    ],
)
async def test_nothing_is_left_of_an_origin_with_wrong_settings(memory: Path, settings: str, regions: str) -> None:
    with pytest.raises(UsageError):
        await found(memory / "origin", founding(settings, regions), now=NOW)
    assert everything(memory / "origin") == {}
    assert (await found(memory / "origin", founding(), now=NOW)).exists


async def test_without_a_passphrase_nothing_is_made(memory: Path) -> None:
    def nobody() -> str:
        raise KeyringError("the keys need their passphrase")

    with pytest.raises(KeyringError):
        await found(memory / "origin", Founding(origins.SETTINGS, origins.REGIONS, nobody, DEMO), now=NOW)
    assert everything(memory / "origin") == {}


async def test_a_try_that_died_early_is_thrown_away_and_one_that_died_late_is_finished(memory: Path) -> None:
    directory = memory / "origin"
    made = await origins.make(memory / "made")
    # Early: no root yet.
    (directory / ".init" / "keys").mkdir(parents=True)
    (directory / ".init" / "keys" / "root-1.json").write_bytes(b"half")
    home = await found(directory, founding(), now=NOW)
    assert home.pinned_root() != made.pinned_root()
    # Late: all is made, and half of it is moved.
    late = memory / "late"
    late.mkdir()
    made.directory.rename(late / ".init")
    for name in ("keys", "settings.toml"):
        (late / ".init" / name).rename(late / name)
    root = (late / ".init" / "root.json").read_bytes()
    home = await found(late, founding(), now=NOW)
    assert home.pinned_root() == root
    assert not (late / ".init").exists()
    assert await origins.release(home, origins.FIRST) == 1
