"""A step is measured on the same bytes for all, and every peer's patch is really applied."""

from __future__ import annotations

import xml.dom.minidom
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="numpy comes with make bench")

from benchmarks.history import Contents, describe, evenly
from benchmarks.peers import PEERS, apply_ed_script, ed_script
from benchmarks.picture import Bar, chart
from benchmarks.run import report
from benchmarks.series import SERIES, Pair, Sampling
from benchmarks.steps import measure
from coldchain.bundle.description import BundleDescription


def bundle(contents: Contents, release: int, files: dict[str, bytes]) -> BundleDescription:
    return contents.bundle("feed", files, release) if files else describe([], release)


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    (tmp_path / "contents").mkdir()
    return Contents(tmp_path / "contents")


def test_each_peer_that_is_there_is_measured(contents: Contents) -> None:
    lines = b"".join(b"host-%d.example\n" % i for i in range(300))
    old = bundle(contents, 1, {"a.txt": lines, "b.yar": b"rule b { condition: true }\n"})
    new = bundle(contents, 2, {"a.txt": lines + b"new.example\n", "b.yar": b"rule b { condition: false }\n"})
    peers = [peer for peer in PEERS if not peer.missing()]
    failures: dict[str, str] = {}
    step = measure(Pair("v2", old, new), contents, peers, failures)
    assert failures == {}
    assert set(step.peers) == {peer.name for peer in peers}
    assert (step.sections, step.records) == (2, 1 + 2)
    assert 0 < step.ours < 200
    assert all(size > 0 for size in step.peers.values())


def test_a_peer_that_fails_is_told_of(contents: Contents) -> None:
    old, new = (bundle(contents, i, {"a.txt": b"a\n" * i + b"b%d\n" % i}) for i in (1, 2))
    broken = [type(peer)("broken", "false", lambda o, n, p: ["false"], peer.apply) for peer in PEERS[:1]]
    failures: dict[str, str] = {}
    step = measure(Pair("v2", old, new), contents, broken, failures)
    assert step.peers == {}
    assert list(failures) == ["broken on v2"]


def test_names_that_differ_only_in_case(contents: Contents) -> None:
    names = [s.name for s in bundle(contents, 1, {"A.yar": b"rule a {}", "a.yar": b"rule b {}"}).sections]
    assert len({name.lower() for name in names}) == 2


def test_sampling() -> None:
    assert evenly(10, None) == list(range(10))
    assert evenly(10, 3) == [0, 4, 9]
    assert Sampling(4, 99).pick(10) == [0, 4, 8]
    assert Sampling(None, 3).say(3, 10) == "3 of 10 steps, evenly spread"
    assert Sampling(1, 3).say(10, 10) == "all 10 steps"
    assert len({series.name for series in SERIES}) == len(SERIES)


@pytest.mark.parametrize("new", [b"a\n", b"b\n.\nc\n", b"", b"..\na\n.\n"])
def test_ed_scripts(tmp_path: Path, new: bytes) -> None:
    (tmp_path / "old").write_bytes(b"a\nb\nc\n")
    (tmp_path / "new").write_bytes(new)
    script = ed_script(tmp_path / "old", tmp_path / "new")
    assert apply_ed_script(b"a\nb\nc\n", script) == new


def test_the_picture_is_well_formed() -> None:
    text = chart([Bar("a<b", 0.5, 0.6), Bar("over", 3.0, 1.0)], "T & t")
    assert len(xml.dom.minidom.parseString(text).getElementsByTagName("rect")) == 3
    assert "#2a7f62" in text
    assert "#c0603a" in text


def test_missing_peers_are_named() -> None:
    text = report({"machine": "m", "python": "3", "peers": [], "missing": ["bsdiff (not installed)"], "series": {}})
    assert "bsdiff (not installed)" in text
