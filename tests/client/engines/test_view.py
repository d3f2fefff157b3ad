"""Views: whole sets of hashed sections, one link, and nothing that was put in their way is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.engines.view import View
from coldchain.errors import DamagedError
from coldchain.install.directory import ClientDirectory
from coldchain.install.versions import Version, parse_version
from tests.client.agent.world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def directory(world: World, tmp_path: Path) -> ClientDirectory:
    return world.copy(world.first, tmp_path / "endpoint")


def version_of(directory: ClientDirectory) -> Version:
    found = parse_version(directory.current.resolve())
    assert found is not None
    return found


def made(directory: ClientDirectory, path: Path) -> tuple[View, Version]:
    view, version = View(path), version_of(directory)
    view.make()
    sections = [one for one in version.describe().sections if one.engine == "clamav"]
    return view, view.build(directory, version, sections)


def test_a_set_is_the_engines_sections_and_costs_no_space(directory: ClientDirectory, tmp_path: Path) -> None:
    view, built = made(directory, tmp_path / "view")
    assert sorted(one.name for one in built.path.iterdir()) == ["coldchain-canary.ndb", "daily.hsb", "main.hsb"]
    for one in built.path.iterdir():
        assert one.stat().st_ino == (version_of(directory).path / one.name).stat().st_ino
    assert view.linked() is None
    view.switch(built)
    assert view.linked() == built
    assert [one.name for one in view.sets()] == [built.name]
    # removing the version takes nothing from it
    for one in version_of(directory).path.iterdir():
        one.unlink()
    assert (built.path / "daily.hsb").stat().st_size > 0


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_version_gives_no_set(how: str, directory: ClientDirectory, tmp_path: Path) -> None:
    path = version_of(directory).path / "main.hsb"
    data = path.read_bytes()
    path.unlink()
    if how == "changed":
        path.write_bytes(data[:-2] + b"x\n")
    with pytest.raises(DamagedError, match=r"main\.hsb"):
        made(directory, tmp_path / "view")
    assert [one.name for one in (tmp_path / "view" / "sets").iterdir() if one.name != "new"] == []


def test_what_a_killed_run_left_is_removed(directory: ClientDirectory, tmp_path: Path) -> None:
    view, built = made(directory, tmp_path / "view")
    view.switch(built)
    (view.path / "sets" / "new").mkdir()
    (view.path / "sets" / "new" / "x").write_bytes(b"x")
    (view.path / ".current.0123abcd.tmp").symlink_to("sets/9-0123456789abcdef")
    view.make()
    assert sorted(one.name for one in view.path.iterdir()) == ["current", "sets"]
    assert [one.name for one in view.sets()] == [built.name]
    assert view.linked() == built


@pytest.mark.parametrize("target", ["/etc", "../x", "sets", "sets/new", "sets/../sets/1-0123456789abcdef"])
def test_a_link_that_is_none_of_ours(target: str, tmp_path: Path) -> None:
    view = View(tmp_path / "view")
    view.make()
    view.current.symlink_to(target)
    with pytest.raises(DamagedError):
        view.linked()


def test_a_directory_in_the_place_of_the_link(tmp_path: Path) -> None:
    view = View(tmp_path / "view")
    view.make()
    view.current.mkdir()
    with pytest.raises(DamagedError):
        view.linked()


def test_a_link_in_the_place_of_the_sets(directory: ClientDirectory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "sets").symlink_to(elsewhere)
    with pytest.raises(DamagedError):
        made(directory, tmp_path / "view")
    assert list(elsewhere.iterdir()) == []


def test_a_set_that_is_gone_counts_as_none(directory: ClientDirectory, tmp_path: Path) -> None:
    view, built = made(directory, tmp_path / "view")
    view.switch(built)
    view.tidy(())
    assert view.linked() is None
