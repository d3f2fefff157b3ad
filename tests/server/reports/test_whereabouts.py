"""``residency show``: what lies where is found by looking, and whatever does not fit is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

from coldchain import canonical
from coldchain.residency import Move, Place
from coldchain_server.home import Home
from coldchain_server.reports import move as room
from coldchain_server.reports.copying import total
from coldchain_server.reports.moving import all_moved, write_moving
from coldchain_server.reports.store import FILE
from coldchain_server.reports.stores import MARK, open_store, report_store
from coldchain_server.signing.log_policy import log_signer
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.reports import residents
from tests.server.reports.residents import ONE, everything, show


@pytest.fixture
async def home(resident_home: Home) -> Home:
    """The reports of us have moved to ch."""
    await residents.move(resident_home)
    return resident_home


async def append(home: Home, *entries: bytes) -> None:
    log = await residents.public_log(home)
    await log.append(list(entries), log_signer(origins.keyring(home), log.key))


async def test_it_shows_every_store_and_every_move_with_its_proof(home: Home) -> None:
    found = await show(home, deep=True)
    assert (found.problems, found.error) == ([], None)
    assert found.regions == {"us": "ch", "jp": "jp", "nippon": "jp"}
    seen = {one.name: {kept.region: (kept.state, kept.total) for kept in one.kept} for one in found.stores}
    expected: dict[str, dict[str, object]] = {"ch": {}, "us": {}, "jp": {}, "nippon": {}}
    for store, region in (("ch", "us"), ("jp", "jp"), ("jp", "nippon")):
        with open_store(home, store) as opened:
            expected[store][region] = ("counted", total(opened, [region]))
    assert seen == expected
    assert {one.name: one.directory and one.directory.name for one in found.stores} == {
        "ch": "ch", "us": "us", "jp": "jp", "nippon": None,
    }  # fmt: skip
    (move,) = found.moves
    assert (move.index, move.size, move.move.region, move.witnesses) == (0, 1, "us", ())
    text = "\n".join(found.lines())
    assert "store us (United States): " in text
    assert "nothing was ever kept there" in text
    assert "region us: kept in store ch" in text
    assert "log entry 0 of 1, no witness is asked for: the outcome reports of region us moved" in text
    assert text.endswith("every report is in its region's store and nowhere else")


def _stray(home: Home) -> None:
    with open_store(home, "us") as store:
        store.put("us", [])
        store.unseal("us")
        store.add([ONE])


def _unknown_region(home: Home) -> None:
    with open_store(home, "jp") as store:
        store.add([replace(ONE, region="eu")])


def _volume_away(home: Home) -> None:
    shutil.rmtree(home.directory / "reports" / "us")


def _another_volume(home: Home) -> None:
    shutil.copy(home.directory / "reports" / "jp" / MARK, home.directory / "reports" / "us" / MARK)


def _damaged(home: Home) -> None:
    path = home.directory / "reports" / "jp" / FILE
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 3] = b"\xff" * 4096
    path.write_bytes(data)


def _edited(home: Home) -> None:
    with report_store(home, "us") as store:
        store.remove("us")
    home.write_regions(home.regions_text().replace('residency = "ch"', 'residency = "us"'))


def _region_gone(home: Home) -> None:
    home.write_regions(home.regions_text().replace('[regions.nippon]\nalias = "jp"\n', ""))


def _elsewhere(home: Home) -> None:
    home.write_regions(home.regions_text().replace('"Switzerland"', '"Sweden"'))


def _forgotten_entry(home: Home) -> None:
    (moved,) = all_moved(home)
    write_moving(home, replace(moved, index=7))
    (home.residency / "moving" / "us.json").rename(home.residency / "moved" / "00000007.json")


def _another_record(home: Home) -> None:
    (moved,) = all_moved(home)
    assert moved.entry is not None
    write_moving(home, replace(moved, entry=moved.entry.replace(b"Swit", b"swit")))
    (home.residency / "moving" / "us.json").rename(home.residency / "moved" / "00000000.json")


PROBLEMS: dict[Callable[[Home], None], str] = {
    _stray: "store us holds 1 reports of us, which belong in ch",
    _unknown_region: "store jp holds 1 reports of eu, which is no region of regions.toml",
    _volume_away: "store us cannot be read, and may hold anything: store us is not in ",
    _another_volume: "store us cannot be read, and may hold anything: store us is not in ",
    _damaged: "the file of store jp is damaged",
    _edited: "the log says that the reports of us went to store ch; regions.toml says us",
    _region_gone: "store jp holds 16 reports of nippon, which is no region of regions.toml",
    _elsewhere: "the log says that store ch lies in Switzerland; regions.toml says Sweden",
    _forgotten_entry: "a move was finished whose entry 7 is none in the log",
    _another_record: "the file of the move that entry 0 states says something else",
}


@pytest.mark.parametrize("spoil", PROBLEMS)
async def test_what_does_not_fit_is_said(home: Home, spoil: Callable[[Home], None]) -> None:
    spoil(home)
    found = await show(home, deep=True)
    assert [one for one in found.problems if one.startswith(PROBLEMS[spoil])], found.problems
    error = found.error
    assert error is not None
    assert error.exit_code == 53
    assert error.as_json()["problems"] == found.problems
    assert any(line.startswith("PROBLEM ") for line in found.lines())


async def test_what_the_log_says_wrongly_is_said(home: Home) -> None:
    (entry,) = await residents.logged(home)
    jump = replace(entry, source=Place("sg", "Singapore"))
    for number, (data, words) in enumerate(
        (
            (canonical.encode({"format": "coldchain-residency-1"}), "'product' is missing"),
            (canonical.encode({"format": "coldchain-residency-2"}), "has format 'coldchain-residency-2'"),
            (jump.encode(), "region us leaves store sg, and its last move went to ch"),
            (
                replace(jump, source=entry.target, target=entry.source, product="other").encode(),
                "is about product other",
            ),
        ),
        start=1,
    ):
        await append(home, data)
        assert any(f"log entry {number}" in one and words in one for one in (await show(home)).problems), words


async def test_the_same_entry_twice_is_no_problem(home: Home) -> None:
    (entry,) = await residents.logged(home)
    await append(home, entry.encode())
    found = await show(home)
    assert (found.problems, [one.index for one in found.moves]) == ([], [0])


async def test_a_move_on_its_way_is_shown_as_one(resident_home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home = resident_home

    def died(*_: object) -> None:
        raise InterruptedError

    for step, stop in (("copying", "compare"), ("logging", "_log"), ("logged", "switch"), ("switching", "remove")):
        monkeypatch.setattr(room, stop, died)
        with pytest.raises(InterruptedError):
            await residents.move(home)
        monkeypatch.undo()
        found = await show(home)
        assert found.problems == []
        assert [(one.region, one.step) for one in found.moving] == [("us", step)]
        states = {(one.name, kept.region): kept.state for one in found.stores for kept in one.kept}
        counts, copy = ("ch", "us") if step == "switching" else ("us", "ch")
        assert (states[counts, "us"], states[copy, "us"]) == ("counted", "copy")
        text = "\n".join(found.lines())
        assert f"moving us: from us to ch, {step}" in text
        assert "not counted: its move is on its way" in text


async def test_an_entry_that_no_published_checkpoint_covers_is_not_believed(home: Home) -> None:
    back = Move("coldchain", "jp", Place("jp", "Japan"), Place("ch", "Switzerland"), 0, 0, "0" * 64, NOW, ("nippon",))
    log = await residents.public_log(home)
    await log.append([back.encode()], log_signer(origins.keyring(home), log.key), pending=True)
    found = await show(home)
    assert "log entry 1: no published checkpoint covers it" in found.problems
    assert [one.index for one in found.moves] == [0]


async def test_looking_changes_nothing(home: Home) -> None:
    def files() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in home.directory.rglob("*") if path.is_file()}

    before, lines = files(), everything(home)
    await show(home, deep=True)
    assert (files(), everything(home)) == (before, lines)
