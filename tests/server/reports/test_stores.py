"""Each region's reports are in the store that its residency names, and in no other."""

from __future__ import annotations

import itertools
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.errors import StateError, StorageError, UsageError
from coldchain_server.home import Home
from coldchain_server.reports.moving import Moving, write_moving
from coldchain_server.reports.store import FILE, Batch, Pardon
from coldchain_server.reports.stores import MARK, made_stores, open_store, report_store, retire_store, store_name
from tests.server.reports.test_store import ONE

REGIONS = """
neutral = "ch"
[regions.us]
jurisdiction = "United States"
residency = "us"
[regions.jp]
jurisdiction = "Japan"
[regions.apac]
jurisdiction = "Australia"
residency = "jp"
[regions.au]
alias = "apac"
"""
WHERE = {"us": "us", "jp": "ch", "apac": "jp", "au": "jp"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "regions.toml").write_text(REGIONS)
    return Home(tmp_path)


def test_residency_names_the_store(home: Home) -> None:
    for region, name in WHERE.items():
        assert store_name(home, region) == name
        with report_store(home, region) as store:
            store.add([replace(ONE, region=region)])
            assert store.directory == home.directory / "reports" / name
    found = {path.parent.name: path.read_bytes() for path in (home.directory / "reports").glob(f"*/{FILE}")}
    assert set(found) == set(WHERE.values())
    for region, name in WHERE.items():
        with report_store(home, region) as store:
            assert store.regions() == sorted(one for one in WHERE if WHERE[one] == name)


def test_a_region_that_is_not_named(home: Home) -> None:
    with pytest.raises(UsageError, match="no region 'eu'"):
        report_store(home, "eu")


# -- nothing is written elsewhere


def test_a_store_takes_the_reports_of_its_regions_alone(home: Home) -> None:
    for region, other in itertools.permutations(WHERE, 2):
        with report_store(home, region) as store:
            if WHERE[region] == WHERE[other]:
                assert store.add([replace(ONE, region=other)])
                continue
            for adding in (
                lambda store=store, other=other: store.add([replace(ONE, region=other)]),
                lambda store=store, other=other: store.add([], Batch(other, "edge-1", 1)),
                lambda store=store, other=other: store.pardon([Pardon(other, "stable", 42, "direct", 1, 1, 0)]),
                lambda store=store, region=region, other=other: store.add(
                    [replace(ONE, region=region), replace(ONE, region=other)]
                ),
            ):
                with pytest.raises(StateError, match=f"the reports of {other} are not kept in {WHERE[region]}"):
                    adding()
            assert store.rows(other) == []


def test_a_volume_that_is_not_mounted_is_not_taken_for_a_new_store(home: Home, tmp_path: Path) -> None:
    volume, away = tmp_path / "volume", tmp_path / "away"
    home.write_regions(REGIONS + f'[stores.us]\npath = "{volume}"\n')
    with report_store(home, "us") as store:
        store.add([ONE])
        assert store.directory == volume
    volume.rename(away)
    for made in (False, True):
        if made:
            volume.mkdir()  # the mount point
        with pytest.raises(StorageError, match="store us is not in ") as refused:
            report_store(home, "us")
        assert "is its volume mounted?" in refused.value.todo
        assert not made or list(volume.iterdir()) == []
    with report_store(home, "jp") as store:
        assert store.add([replace(ONE, region="jp")]), "another store's region counts on"
    volume.rmdir()
    away.rename(volume)
    with report_store(home, "us") as store:
        assert store.rows("us") == [ONE]


def test_another_store_s_volume_in_its_place_is_refused(home: Home) -> None:
    for region in ("us", "jp"):
        report_store(home, region).close()
    folder = home.directory / "reports"
    shutil.rmtree(folder / "us")
    shutil.copytree(folder / "ch", folder / "us")
    with pytest.raises(StorageError, match="store us is not in "):
        open_store(home, "us")
    (home.residency / "stores" / "us.json").unlink()
    with pytest.raises(StorageError, match="is another store"):
        open_store(home, "us")


@pytest.mark.parametrize("path", ["public", "public/reports", "keys", "content/x", "residency", "drafts"])
def test_a_store_is_nowhere_in_what_is_the_origin_s(home: Home, path: str) -> None:
    for text in (path, str(home.directory / path)):
        home.write_regions(REGIONS + f'[stores.us]\npath = "{text}"\n')
        with pytest.raises(UsageError, match="is where the origin keeps its"):
            report_store(home, "us")
    assert not (home.directory / path).exists()


def test_a_store_around_the_origin_is_refused(home: Home) -> None:
    home.write_regions(REGIONS + f'[stores.us]\npath = "{home.directory}"\n')
    with pytest.raises(UsageError, match="is where the origin keeps its"):
        report_store(home, "us")


def test_first_uses_at_one_time_make_one_store(home: Home) -> None:
    for _ in range(5):
        shutil.rmtree(home.directory / "reports", ignore_errors=True)
        shutil.rmtree(home.residency, ignore_errors=True)
        errors: list[Exception] = []

        def use(errors: list[Exception] = errors) -> None:
            try:
                with report_store(home, "us") as store:
                    store.add([ONE])
            except Exception as error:  # noqa: BLE001  told below
                errors.append(error)

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        with report_store(home, "us") as store:
            assert [one.count for one in store.rows("us")] == [4 * ONE.count]


def test_what_a_crash_left_of_a_first_use_is_made_good(home: Home) -> None:
    report_store(home, "us").close()
    mark, record = home.directory / "reports" / "us" / MARK, home.residency / "stores" / "us.json"
    known = mark.read_bytes()
    record.unlink()
    (mark.parent / f".{MARK}.0123456789abcdef").write_bytes(b"half")
    report_store(home, "us").close()
    assert mark.read_bytes() == record.read_bytes() == known
    assert sorted(path.name for path in mark.parent.iterdir()) == [FILE, MARK]


def test_only_an_empty_store_that_nothing_needs_is_retired(home: Home) -> None:
    with pytest.raises(StateError, match="no store 'us' that was ever used"):
        retire_store(home, "us")
    with report_store(home, "us") as store:
        store.add([ONE])
    with pytest.raises(StateError, match="in use by us"):
        retire_store(home, "us")
    home.write_regions(REGIONS.replace('residency = "us"', 'residency = "jp"'))
    with pytest.raises(StateError, match="in use by us"):
        retire_store(home, "us")
    with open_store(home, "us") as store:
        store.remove("us")
    write_moving(home, Moving("us", (), "jp", "us"))
    with pytest.raises(StateError, match="in use by us"):
        retire_store(home, "us")
    (home.residency / "moving" / "us.json").unlink()
    where = retire_store(home, "us")
    assert list(where.iterdir()) == []
    assert made_stores(home) == []
    shutil.rmtree(where)
    with report_store(home, "us") as store:
        assert store.add([ONE])
