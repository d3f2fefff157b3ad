from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from coldchain.errors import StateError, StorageError, UsageError
from coldchain_server.home import DEFAULT_SETTINGS, Home, Settings, load_settings


def test_what_stands_as_a_comment_is_the_default() -> None:
    assert load_settings(DEFAULT_SETTINGS) == Settings()
    spoken = "\n".join(line.removeprefix("# ") for line in DEFAULT_SETTINGS.splitlines()[1:])
    assert load_settings(spoken) == Settings()


def test_settings_are_read() -> None:
    text = (
        'product = "acme"\nchannels = ["one", "two"]\nrecent_deltas = 3\nkeep_generations = 1\ntimestamp_hours = 24\n'
        "poll_seconds = 900\n"
    )
    assert load_settings(text) == Settings("acme", ("one", "two"), 3, 1, 24, 900)


@pytest.mark.parametrize(
    "text",
    [
        "product = ",
        "prodcut = 'x'",
        "product = 5",
        "product = ''",
        "product = 'Two Words'",
        "channels = 'stable'",
        "channels = []",
        "channels = [1]",
        "channels = ['a', 'a']",
        "channels = ['../x']",
        "channels = {a = 1}",
        *(
            f"{name} = {value}"
            for name in ("recent_deltas", "keep_generations", "timestamp_hours")
            for value in ("0", "-1", "1.5", "true", "'4'", "100000")
        ),
        *(f"poll_seconds = {value}" for value in ("-1", "1.5", "true", "'4'", "100000")),
    ],
)
def test_what_is_wrong_in_settings_is_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"settings\.toml: "):
        load_settings(text)


def test_a_directory_without_a_root_is_no_origin(tmp_path: Path) -> None:
    home = Home(tmp_path / "x")
    assert not home.exists
    with pytest.raises(StateError, match="x is not an origin's directory") as caught:
        home.require()
    assert "init" in caught.value.todo


@pytest.mark.parametrize("name", ["settings.toml", "regions.toml", "rollout.toml"])
def test_files_that_cannot_be_read_are_named(new_home: Home, name: str) -> None:
    reads: dict[str, Callable[[], object]] = {
        "settings.toml": new_home.settings,
        "regions.toml": new_home.regions,
        "rollout.toml": new_home.schedules,
    }
    read = reads[name]
    (new_home.directory / name).write_bytes(b"\xff")
    with pytest.raises(StorageError, match=name):
        read()
    (new_home.directory / name).unlink()
    if name == "rollout.toml":
        assert read() == {}
    else:
        with pytest.raises(StorageError, match=name):
            read()
    (new_home.directory / "root.json").unlink()
    with pytest.raises(StorageError, match=r"root\.json"):
        new_home.pinned_root()
