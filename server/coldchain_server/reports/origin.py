"""What an origin takes reports with: its edges, its settings, and the releases that it has published."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from coldchain_server.home import Home
from coldchain_server.reports.edges import FILE, EdgeList
from coldchain_server.reports.ledger import Ledger
from coldchain_server.reports.reception import Newest, Reception
from coldchain_server.reports.stores import report_store
from coldchain_server.signing.roles import load_state


def origin_reception(
    home: Home, entered: Callable[[], None], count: Callable[[str, int, Mapping[str, str]], None]
) -> Reception:
    """The rules of an origin.

    Args:
        home: the origin.
        entered: told when reports were counted.
        count: told of everything that arrives.

    Raises:
        UsageError: settings.toml is not in order.
    """

    async def newest() -> Newest:
        facts = cast("dict[str, dict[str, Any]]", (await load_state(home.storage)).rollout())
        return {
            (region, channel): entry["release"]
            for region, channels in facts.items()
            for channel, entry in channels.items()
        }

    settings = home.settings()
    return Reception(
        Ledger(lambda region: report_store(home, region), entered),
        EdgeList(home.directory / FILE),
        newest,
        per_network=settings.reports_per_network,
        direct_per_hour=settings.reports_direct_per_hour,
        count=count,
    )
