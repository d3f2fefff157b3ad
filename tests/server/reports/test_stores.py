"""Each region's reports are in the store that its residency names, and in no other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coldchain.errors import UsageError
from coldchain_server.home import Home
from coldchain_server.reports.store import FILE
from coldchain_server.reports.stores import report_store, store_name
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
