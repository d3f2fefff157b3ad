"""Which store keeps the reports of which region: the one that ``residency`` in ``regions.toml`` names, by default the neutral region's.

::

    HOME/reports/ch/reports.sqlite      of the regions whose residency is ch
    HOME/reports/us/reports.sqlite      ...
"""

from __future__ import annotations

from pathlib import Path

from coldchain.errors import UsageError
from coldchain_server.home import Home
from coldchain_server.reports.store import ReportStore


def store_name(home: Home, region: str) -> str:
    """The region whose store keeps the reports of this one. Raises UsageError for a region that regions.toml does not name."""
    regions = home.regions().regions
    if region not in regions:
        raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(regions))
    return regions[region].residency


def store_directory(home: Home, name: str) -> Path:
    """Where the store of this name is."""
    return home.directory / "reports" / name


def report_store(home: Home, region: str) -> ReportStore:
    """The store that keeps this region's reports now, open; who has it closes it.

    Raises:
        UsageError: regions.toml is not in order, or does not name the region.
        StorageError: the store cannot be opened.
    """
    return ReportStore.open(store_directory(home, store_name(home, region)))
