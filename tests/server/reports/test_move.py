"""Moving a region's reports: all of them, once, said in public before, and nothing of them left behind."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coldchain.errors import BusyError, EvidenceError, ResidencyError, StateError, StorageError, UsageError
from coldchain.residency import Place
from coldchain_server.home import Home
from coldchain_server.reports import move as room
from coldchain_server.reports.copying import total
from coldchain_server.reports.move import abandon, begin, copy, finish_logged, mover
from coldchain_server.reports.moving import Moving, all_moved, all_moving, read_moving, write_moving
from coldchain_server.reports.store import FILE, Batch, ReportStore
from coldchain_server.reports.stores import open_store, report_store
from coldchain_server.signing.log_policy import log_signer
from tests.client.tuf.repository import NOW
from tests.server import origins
from tests.server.reports import residents
from tests.server.reports.residents import ALL, ONE, REGIONS, arrive, counted, everything, logged, show
from tests.server.witnesses import Team, team


@pytest.fixture
def home(resident_home: Home) -> Home:
    return resident_home


def quiet(_: str) -> None:
    return None


# -- the whole way


async def test_all_of_a_region_moves_and_nothing_else(home: Home) -> None:
    before, text = everything(home), home.regions_text()
    found = await residents.move(home)
    assert found is not None
    after = everything(home)
    assert after == before | {"us": {}, "ch": {"us": before["us"]["us"]}}
    assert home.regions_text() == text.replace('residency = "us"', 'residency = "ch"')
    assert all_moving(home) == []
    assert all_moved(home) == [found]
    (entry,) = await logged(home)
    with open_store(home, "ch") as store:
        what = total(store, ["us"])
    assert (entry.reports, entry.rows, entry.sha256) == (what.reports, what.rows, what.sha256)
    assert (entry.source, entry.target) == (Place("us", "United States"), Place("ch", "Switzerland"))
    assert (entry.region, entry.product, entry.time, found.index, found.final) == ("us", "coldchain", NOW, 0, what)


async def test_it_counts_on_in_the_new_place_with_what_it_remembers(home: Home) -> None:
    before = counted(home, "us")
    assert arrive(home, "us", 3)
    await residents.move(home)
    assert not arrive(home, "us", 3), "a batch that was counted before the move is counted again"
    assert arrive(home, "us", 4)
    assert counted(home, "us") == before + type(before)({ONE: 2})
    with report_store(home, "us") as store:
        assert [one.sender for one in store.batches("us")] == ["late-edge", "us-edge"]
        assert len(store.pardons("us")) == 1


async def test_no_byte_of_it_stays_in_the_old_store(home: Home) -> None:
    old = home.directory / "reports" / "us"
    name = b"us-edge"
    assert name in (old / FILE).read_bytes()
    await residents.move(home)
    assert [path.name for path in sorted(old.iterdir()) if name in path.read_bytes()] == []
    assert name in (home.directory / "reports" / "ch" / FILE).read_bytes()


async def test_there_and_back_again_and_there_is_a_chain(home: Home) -> None:
    before = everything(home)
    for target in ("ch", "jp", "us", "ch", "us"):
        await residents.move(home, "us", target)
        with pytest.raises(BusyError, match="another process"), mover(home):
            await residents.move(home, "us", "jp")
        assert (await show(home)).problems == []
    assert everything(home) == before | {"ch": {}}
    assert [one.target.store for one in await logged(home)] == ["ch", "jp", "us", "ch", "us"]
    assert home.regions_text() == REGIONS
    assert arrive(home, "us", 1)


async def test_where_it_is_already_nothing_happens(home: Home) -> None:
    assert await residents.move(home, "us", "us") is None
    assert await logged(home) == []


@pytest.mark.parametrize("name", ["jp", "nippon"])
async def test_an_old_name_moves_with_the_region_whichever_is_named(home: Home, name: str) -> None:
    before = everything(home)
    assert set(before["jp"]) == {"jp", "nippon"}
    await residents.move(home, name)
    assert everything(home) == before | {"jp": {}, "ch": before["jp"]}
    (entry,) = await logged(home)
    assert (entry.region, entry.old_names, entry.reports) == ("jp", ("nippon",), 2 * 16)
    assert arrive(home, "nippon", 1)
    assert (await show(home)).problems == []


async def test_a_region_without_reports_moves_too(home: Home) -> None:
    with report_store(home, "us") as store:
        store.remove("us")
    await residents.move(home)
    (entry,) = await logged(home)
    assert (entry.reports, entry.rows) == (0, 0)
    assert arrive(home, "us", 1)
    assert set(everything(home)["ch"]) == {"us"}


async def test_what_comes_meanwhile_comes_along_and_what_is_forgotten_goes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step somebody sends a report; twice the origin forgets old hours."""
    sent, real = [0], {name: getattr(room, name) for name in ("copy_all", "append_entry")}

    def send() -> None:
        try:
            assert arrive(home, "us", sent[0] + 1)
        except BusyError:
            return
        sent[0] += 1

    def copying(source: ReportStore, target: ReportStore, moving: Moving, say: Callable[[str], None]) -> None:
        if not source._in_transaction():
            send()
            source.forget("2026-06-01T03:00:00Z")
            target.forget("2026-06-01T06:00:00Z")
        real["copy_all"](source, target, moving, say)

    async def appending(*values: object, **named: object) -> object:
        send()
        return await real["append_entry"](*values, **named)

    monkeypatch.setattr(room, "copy_all", copying)
    monkeypatch.setattr(room, "append_entry", appending)
    expected = {one: n for one, n in counted(home, "us").items() if one.hour >= "2026-06-01T03:00:00Z"}
    found = await residents.move(home)
    assert sent == [3]
    assert counted(home, "us") == expected | {ONE: 3}
    assert set(everything(home)["us"]) == set()
    (entry,) = await logged(home)
    assert found is not None
    assert found.final is not None
    assert found.final.reports == entry.reports + 2, "the entry says what there was when it was compared"
    assert "with what came until the switch" in "\n".join((await show(home)).lines())


# -- what must not be


async def test_a_copy_that_is_not_equal_ends_it_before_anything_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(home)

    def lossy(source: ReportStore, target: ReportStore, moving: Moving, say: Callable[[str], None]) -> None:
        target.put("us", source.lines("us")[1:])

    monkeypatch.setattr(room, "copy_all", lossy)
    with pytest.raises(ResidencyError, match="its copy in ch") as refused:
        await residents.move(home)
    assert refused.value.exit_code == 53
    assert "residency move --resume" in refused.value.todo
    monkeypatch.undo()
    assert await logged(home) == []
    assert everything(home)["us"] == before["us"]
    assert arrive(home, "us", 1)
    assert (await show(home)).problems == []
    await residents.move(home)
    assert (await show(home)).problems == []


@pytest.mark.parametrize("bad", ["copy", "original", "both"])
async def test_what_goes_bad_after_the_switch_is_made_good_or_kept(
    home: Home, bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, real = counted(home, "us"), room.settle

    def damaged(home_: Home, moving: Moving, say: Callable[[str], None]) -> None:
        for name in {"copy": ["ch"], "original": ["us"], "both": ["us", "ch"]}[bad]:
            with open_store(home_, name) as store:
                store.put("us", store.lines("us")[2:])
        real(home_, moving, say)

    monkeypatch.setattr(room, "settle", damaged)
    if bad == "copy":
        await residents.move(home)
        assert counted(home, "us") == before
        assert "us" not in everything(home)["us"]
        return
    with pytest.raises(ResidencyError, match="is not what was compared before the switch"):
        await residents.move(home)
    assert everything(home)["us"]["us"]
    assert len(all_moving(home)) == 1
    if bad == "both":
        with pytest.raises(BusyError):
            arrive(home, "us", 1)
        return
    assert counted(home, "us") == before, "a good copy is not made again from a bad original"
    assert arrive(home, "us", 1)


async def test_an_old_copy_that_somebody_wrote_to_is_not_removed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = room.remove

    def writing(home_: Home, moving: Moving, say: Callable[[str], None]) -> None:
        with open_store(home_, "us") as store:
            store.put("us", store.lines("us")[1:])
        real(home_, moving, say)

    monkeypatch.setattr(room, "remove", writing)
    with pytest.raises(ResidencyError, match="its copy in ch was, and counts"):
        await residents.move(home)
    assert everything(home)["us"]["us"]
    assert len(all_moving(home)) == 1


async def test_a_writer_who_opened_the_old_store_before_the_switch_is_refused(home: Home) -> None:
    with report_store(home, "us") as late:
        await residents.move(home)
        with pytest.raises(BusyError, match="being moved"):
            late.add([ONE], Batch("us", "late-edge", 1))
    assert "us" not in everything(home)["us"]
    assert arrive(home, "us", 1)


async def test_names_that_are_none(home: Home) -> None:
    for region, target in (("us", "sg"), ("eu", "ch"), ("us", ""), ("us", "../ch")):
        with pytest.raises(UsageError, match=r"there is no (store|region)"):
            await residents.move(home, region, target)
    assert all_moving(home) == []
    assert sorted(everything(home)) == ["jp", "us"]


async def test_two_targets_at_a_time_are_one_too_many(home: Home) -> None:
    with mover(home):
        assert begin(home, "us", "ch") == begin(home, "us", "ch")
    with pytest.raises(StateError, match="on their way to store ch"):
        await residents.move(home, "us", "jp")
    await residents.move(home, "us", "ch")


async def test_reports_where_no_move_put_them_stop_a_move(home: Home) -> None:
    with open_store(home, "ch") as store:
        store.add([ONE])
    with pytest.raises(StateError, match="store ch holds reports of us"):
        await residents.move(home)
    with open_store(home, "ch") as store:
        store.remove("us")
    await residents.move(home)


# -- regions.toml in other hands


async def test_an_edited_line_stops_reports_until_it_is_back(home: Home) -> None:
    text = home.regions_text()
    home.write_regions(text.replace('residency = "us"', 'residency = "ch"'))
    with pytest.raises(StateError, match="some are in us") as refused:
        arrive(home, "us", 1)
    assert 'write residency = "us" again' in refused.value.todo
    with pytest.raises(StateError, match="store us holds reports of us, which are kept in ch"):
        await residents.move(home, "us", "jp")
    (problem,) = (await show(home)).problems
    assert problem == "store us holds 16 reports of us, which belong in ch"
    home.write_regions(text)
    assert arrive(home, "us", 1)
    await residents.move(home)


@pytest.mark.parametrize("step", ["copying", "logging", "logged"])
async def test_an_edited_line_stops_a_move_until_it_is_back(
    home: Home, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, before = home.regions_text(), everything(home)["us"]["us"]
    stop = {"copying": "copy", "logging": "_log", "logged": "switch"}[step]

    def died(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(room, stop, died)
    with pytest.raises(InterruptedError):
        await residents.move(home)
    monkeypatch.undo()
    found = read_moving(home, "us")
    assert found is not None
    assert found.step == step
    for other in ("ch", "jp"):
        home.write_regions(text.replace('residency = "us"', f'residency = "{other}"'))
        with pytest.raises(StateError):
            arrive(home, "us", 1)
        with pytest.raises(StateError, match=r"changed to .* by hand"):
            await residents.move(home)
        assert len(await logged(home)) == (step == "logged")
        assert (await show(home)).problems
    home.write_regions(text + '\n[regions.america]\nalias = "us"\n')
    with pytest.raises(StateError, match="old names are not what they were"):
        await residents.move(home)
    home.write_regions(text)
    await residents.move(home)
    assert everything(home) | {"jp": {}} == {"us": {}, "jp": {}, "ch": {"us": before}}


async def test_text_that_one_line_cannot_change_leaves_everything(home: Home) -> None:
    text = home.regions_text()
    home.write_regions(text.replace('residency = "us"', 'residency = """us"""'))
    with pytest.raises(StateError, match="cannot be changed by one line"):
        await residents.move(home)
    assert counted(home, "us")
    home.write_regions(text)
    await residents.move(home)
    assert (await show(home)).problems == []


# -- the log


@pytest.fixture
async def witnessed(home: Home, memory: Path) -> AsyncIterator[tuple[Home, Team]]:
    (memory / "witnesses").mkdir()
    async with team(memory / "witnesses") as found:
        await found.join(home, 2)
        yield home, found


async def test_without_a_quorum_nothing_takes_effect_and_it_waits(witnessed: tuple[Home, Team]) -> None:
    home, witnesses = witnessed
    text = home.regions_text()
    await witnesses.stop(["tokyo", "oslo"])
    for number in range(3):
        with pytest.raises(EvidenceError) as refused:
            await residents.move(home)
        assert refused.value.kept == "the reports of us stay in store us and count there, new ones too"
        assert arrive(home, "us", number + 1)
        assert home.regions_text() == text
        assert (await show(home)).problems == []
        assert [one.step for one in all_moving(home)] == ["logging"]
    before = counted(home, "us")
    await witnesses.start(["tokyo"])
    await residents.move(home)
    assert counted(home, "us") == before
    found = await show(home, deep=True)
    assert found.problems == []
    (entry,) = found.moves
    assert set(entry.witnesses) >= {"tokyo"}
    assert len(await logged(home)) == 1, "one move, one entry, however often it was tried"


async def test_an_entry_is_found_again_however_far_the_log_has_grown(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(room, "verify_proof", died)
    with pytest.raises(InterruptedError):
        await residents.move(home)
    monkeypatch.undo()
    log, keyring = await residents.public_log(home), origins.keyring(home)
    await log.append([b"%d" % number for number in range(600)], log_signer(keyring, log.key))
    found = await residents.move(home)
    assert found is not None
    assert found.index == 0
    assert len(await logged(home)) == 1


# -- after a crash, by others


async def test_what_is_in_the_log_is_ended_without_keys_by_whoever_comes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = counted(home, "us")

    def died(*_: object) -> None:
        raise InterruptedError

    assert finish_logged(home) == []
    for stop, expected in (("_log", 0), ("switch", 1), ("set_residency", 1), ("settle", 1), ("remove", 1)):
        target = "ch" if home.regions().regions["us"].residency == "us" else "us"
        monkeypatch.setattr(room, stop, died)
        with pytest.raises(InterruptedError):
            await residents.move(home, "us", target)
        monkeypatch.undo()
        with mover(home):
            assert finish_logged(home) == [], "somebody is at work"
        assert len(finish_logged(home)) == expected
        if not expected:
            await residents.move(home, "us", target)
        assert counted(home, "us") == before
        assert (await show(home)).problems == []
    assert len(all_moved(home)) == 5


async def test_while_the_old_store_is_sealed_reports_are_told_to_come_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(room, "set_residency", died)
    with pytest.raises(InterruptedError):
        await residents.move(home)
    monkeypatch.undo()
    with pytest.raises(BusyError):
        arrive(home, "us", 1)
    finish_logged(home)
    assert arrive(home, "us", 1)


async def test_a_move_is_given_up_only_while_nothing_is_public(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(home)
    with mover(home):
        with pytest.raises(StateError, match="no move of us"):
            abandon(home, "us")
        moving = begin(home, "us", "ch")
        assert moving is not None
        copy(home, moving, 0, lambda: NOW, quiet)
        with pytest.raises(StateError, match="in the public log, or will be"):
            abandon(home, "us")
        write_moving(home, replace(moving, step="copying"))
        assert everything(home)["ch"]["us"]
        abandon(home, "us")
    assert everything(home) == before | {"ch": {}}
    assert (await show(home)).problems == []
    await residents.move(home)
    assert await logged(home)


async def test_a_full_disk_stops_it_and_space_lets_it_go_on(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite itself says that it is full: the new store's file may not grow."""
    residents.fill_more(home, "us", 800)
    before, real = counted(home, "us"), open_store

    def full(home_: Home, name: str, *values: Any, **named: Any) -> ReportStore:
        store = real(home_, name, *values, **named)
        if name == "ch":
            store._rows("PRAGMA max_page_count=12")
        return store

    monkeypatch.setattr(room, "open_store", full)
    with pytest.raises(StorageError, match="full"):
        await residents.move(home)
    assert counted(home, "us") == before
    assert (await show(home)).problems == []
    monkeypatch.undo()
    await residents.move(home)
    assert counted(home, "us") == before
    assert ALL[0] not in everything(home)["us"]


async def test_whoever_adds_or_looks_while_moves_run_is_at_most_told_to_come_again(home: Home) -> None:
    """Reports are added in a thread as fast as they can be, and somebody looks, while the region moves four times."""
    before, done, seen = counted(home, "us"), threading.Event(), [0]
    errors: list[Exception] = []

    def adding() -> None:
        while not done.is_set():
            try:
                seen[0] += arrive(home, "us", seen[0] + 1)
            except BusyError:
                continue
            except Exception as error:  # noqa: BLE001  told below
                errors.append(error)
                return

    def looking() -> None:
        while not done.is_set():
            try:
                problems = asyncio.run(show(home)).problems
            except BusyError:
                continue
            if problems:
                errors.append(AssertionError(problems))

    threads = [threading.Thread(target=work) for work in (adding, looking)]
    for thread in threads:
        thread.start()
    for target in ("ch", "jp", "ch", "us"):
        for _ in range(1000):
            try:
                await residents.move(home, "us", target)
                break
            except BusyError:  # somebody looks twice
                await asyncio.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert seen[0] > 0
    assert counted(home, "us") == before + Counter({ONE: seen[0]})
    assert (await show(home)).problems == []


async def test_one_move_that_cannot_be_ended_does_not_keep_the_others(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(room, "switch", died)
    for region in ("jp", "us"):
        with pytest.raises(InterruptedError):
            await residents.move(home, region, "ch")
    monkeypatch.undo()
    text = home.regions_text()
    home.write_regions(text.replace('residency = "jp"', 'residency = "us"'))
    with pytest.raises(StateError, match="jp was changed to us by hand"):
        finish_logged(home)
    assert [one.region for one in all_moving(home)] == ["jp"]
    assert home.regions().regions["us"].residency == "ch"
    home.write_regions(text.replace('residency = "us"', 'residency = "ch"'))
    assert [one.region for one in finish_logged(home)] == ["jp"]
    assert (await show(home)).problems == []
