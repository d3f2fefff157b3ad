"""A mirror's configuration and memory: one spelling each, and nothing else is taken for one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import DamagedError, MalformedError, NewerFormatError, UsageError
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory, parse_mirror_config
from coldchain.mirror.state import MirrorState, parse_mirror_state
from tests.client.tuf.repository import digest

CONFIG = MirrorConfig("coldchain", ("jp", "us"), digest(b"root"), ("https://a.example", "/srv/b"))
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True).filter(
    lambda name: (
        name not in {"root", "timestamp", "snapshot", "targets", "rollout", "manifest", "checkpoint", "applied"}
    )
)


@given(
    st.sets(NAMES, min_size=1, max_size=5),
    st.lists(st.sampled_from(["https://a.example", "http://b.example/x", "/srv/b"]), min_size=1, unique=True),
    st.sampled_from(["root", digest(b"policy")]),
    st.booleans(),
    st.integers(0, 8000),
)
def test_a_configuration_is_read_as_it_was_written(
    regions: set[str], urls: list[str], policy: str, packs: bool, grace: int
) -> None:
    config = MirrorConfig("coldchain", tuple(sorted(regions)), digest(b"root"), tuple(urls), policy, packs, grace)
    assert parse_mirror_config(config.encode()) == config


def test_every_member_is_checked() -> None:
    whole = canonical.read_canonical(CONFIG.encode(), "x")
    bad: dict[str, list[canonical.JSON]] = {
        "format": ["coldchain-mirror", 1, None],
        "product": ["", "a b", 1],
        "regions": [[], ["root"], ["us", 1], "us", ["a/b"]],
        "root": ["", "00", None],
        "urls": [[], ["ftp://a"], ["https://a.example/"], ["https://a.example?x"], [1]],
        "policy": ["", "own", None],
        "packs": [0, "no"],
        "grace": [-1, "1", 1_000_000],
    }
    assert set(bad) == set(whole)
    for name, values in bad.items():
        for value in values:
            with pytest.raises((MalformedError, UsageError)):
                parse_mirror_config(canonical.encode({**whole, name: value}))
        with pytest.raises(MalformedError):
            parse_mirror_config(canonical.encode({key: one for key, one in whole.items() if key != name}))
    with pytest.raises(MalformedError):
        parse_mirror_config(canonical.encode({**whole, "more": 1}))
    with pytest.raises(NewerFormatError):
        parse_mirror_config(canonical.encode({**whole, "format": "coldchain-mirror-2"}))


@given(st.binary(max_size=200))
def test_a_damaged_state_is_an_empty_one(data: bytes) -> None:
    assert parse_mirror_state(data) == MirrorState()


@given(
    st.dictionaries(st.text("abc/._", min_size=1), st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1))),  # noqa: DTZ001
    st.dictionaries(st.text("abc/._", min_size=1), st.text("0123456789abcdef", max_size=16)),
)
def test_a_state_is_read_as_it_was_written(times: dict[str, datetime], packs: dict[str, str]) -> None:
    state = MirrorState({path: time.replace(microsecond=0, tzinfo=UTC) for path, time in times.items()}, packs)
    assert parse_mirror_state(state.encode()) == state
    for place in range(0, len(state.encode()), 7):
        cut = state.encode()[:place]
        assert parse_mirror_state(cut) == MirrorState()


def test_a_directory_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    for name in ("metadata", "targets", "manifests", "attestations", "log", "packs"):
        path = tmp_path / name
        (path / name).mkdir(parents=True)
        with pytest.raises(UsageError, match="is no mirror, and holds"):
            MirrorDirectory(path).make()
        assert [one.name for one in path.iterdir()] == [name]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("a web server's own page")
    MirrorDirectory(tmp_path / "other").make()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        MirrorDirectory(tmp_path / "file").make()


def test_a_damaged_configuration_says_so(tmp_path: Path) -> None:
    mirror = MirrorDirectory(tmp_path / "mirror")
    assert mirror.config() is None
    mirror.make()
    mirror.write_config(CONFIG)
    assert mirror.config() == CONFIG
    (mirror.own.path / "mirror.json").write_bytes(CONFIG.encode()[:-1])
    with pytest.raises(DamagedError, match=r"mirror\.json is damaged"):
        mirror.config()
