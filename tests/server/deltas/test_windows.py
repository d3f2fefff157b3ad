"""Windows: sections alike, nearest first, within the budget, as the client will read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.bundle.canary import CLAMAV_SECTION
from coldchain.bundle.header import old_sections
from coldchain.bundle.varint import Reader
from coldchain.bundle.window import read_window
from coldchain.limits import LIMITS
from coldchain_server.deltas import windows
from coldchain_server.deltas.windows import Window, Windows
from tests.client.bundle.bundles import Content, Old, Store, describe

OLD: Content = {
    "a.yar": b"rule a {}",
    "b.list": [b"some words", b"other words"],
    "c.yar": b"rule c {}",
    CLAMAV_SECTION: [b"canary"],
    "d.hdb": [b"%032x:68:Win.Trojan.Agent-1-0" % i for i in range(4)],
    "e.list": [b"10.0.0.%d" % i for i in range(4)],
    "f.list": [b"%040x" % i for i in range(4)],
    "g.yar": b"rule g {}" * 20,
    "h.list": [b"domain.example"],
}


@pytest.fixture
def store() -> Store:
    return Store()


def content(window: Window | None, store: Store) -> bytes:
    """What the client reads for a window; it must be what the writer referred to."""
    assert window is not None
    old = describe(OLD, store)
    source = Reader(window.head, "window")
    found = read_window(source, old_sections(old), Old(old, store).open, LIMITS)
    source.done()
    assert found == window.content
    return found


def test_sections_of_a_kind_are_alike(store: Store) -> None:
    """Files with files; of the sets those of text, since hashes and addresses have nothing to say to them."""
    found = Windows(describe(OLD, store), store)
    assert content(found.near("file", ["x.yar"]), store) == b"rule a {}rule c {}" + b"rule g {}" * 20
    assert content(found.near("set", ["x.list"]), store) == b"other words\nsome words\ndomain.example\n"


def test_nothing_old_gives_no_window(store: Store) -> None:
    assert Windows(None, store).near("file", ["a"]) is None
    assert Windows(describe({"a.hdb": [b"%032x:1:x" % 1]}, store), store).near("file", ["a"]) is None
    assert Windows(describe({"a.hdb": [b"%032x:1:x" % 1]}, store), store).near("set", ["a"]) is None


def test_the_nearest_until_the_budget_is_spent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for budget, names, expected in (
        (18, ["b.yar"], b"rule a {}rule c {}"),
        (9, ["b.yar"], b"rule c {}"),  # it would stand right before it
        (9, ["a.txt"], b"rule a {}"),
        (9, ["c.yar"], b"rule c {}"),
        (200, ["b.yar"], b"rule a {}rule c {}" + b"rule g {}" * 20),
        (180, ["z.yar"], b"rule g {}" * 20),
        (9, ["a.yar", "z.yar"], b"rule a {}"),
    ):
        monkeypatch.setattr(windows, "BUDGET_BYTES", budget)
        found = Windows(describe(OLD, store), store)
        assert content(found.near("file", names), store) == expected, (budget, names)
    monkeypatch.setattr(windows, "BUDGET_BYTES", 8)
    assert Windows(describe(OLD, store), store).near("file", ["b.yar"]) is None


def test_content_is_read_once_for_the_same_window(store: Store) -> None:
    old = describe(OLD, store)
    read: list[str] = []

    def counting(digest: str) -> Path:
        read.append(digest)
        return store(digest)

    found = Windows(old, counting)
    first = found.near("file", ["x.yar"])
    count = len(read)
    assert found.near("file", ["y.yar"]) is first
    assert len(read) == count == 3
