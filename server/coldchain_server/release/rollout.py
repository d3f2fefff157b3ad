"""When: the share of endpoints per region and channel, and holding a rollout where it is. Signed by one online key.

The rollout role can delay and never introduce: *what* may run stands in the region roles, signed by two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from coldchain.errors import StateError, UsageError
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.home import Home
from coldchain_server.signing.keyring import Keyring
from coldchain_server.signing.roles import ROLLOUT, load_state, rollout_role, sign
from coldchain_server.signing.rotation import publish_roles, role_signers


async def change_rollout(
    home: Home,
    catalogue: Catalogue,
    keyring: Keyring,
    channel: str,
    regions: Sequence[str],
    *,
    now: datetime,
    share: int | None = None,
    held: bool | None = None,
) -> dict[str, dict[str, Any]]:
    """Changes share or hold of the channel's newest release in some regions (all when none is named), and publishes it.

    Returns:
        Region -> {release, share, held} of the channel, as published now.

    Raises:
        UsageError: no such region, or a share outside 0 to 100.
        StateError: the channel has no release there yet.
    """
    if share is not None and not 0 <= share <= 100:
        raise UsageError(f"a share is 0 to 100 percent, not {share}")
    async with catalogue.publisher(wait=30):
        state = await load_state(home.storage)
        facts = cast("dict[str, dict[str, dict[str, Any]]]", state.rollout())
        wanted = list(regions) or [region for region, channels in facts.items() if channel in channels]
        if not wanted:
            raise StateError(f"no release of {channel} is published yet", todo="coldchain-server release publish N")
        changed = {region: dict(channels) for region, channels in facts.items()}
        for region in wanted:
            if region not in facts:
                raise UsageError(f"there is no region {region!r}", todo="regions are " + ", ".join(facts))
            if channel not in facts[region]:
                raise StateError(f"region {region} has no release of {channel} yet")
            entry = dict(facts[region][channel])
            entry["share"] = entry["share"] if share is None else share
            entry["held"] = entry["held"] if held is None else held
            changed[region][channel] = entry
        rollout = rollout_role(state.delegated[ROLLOUT].signed.version + 1, cast(Any, changed), now)
        sign(rollout, role_signers(state, keyring, ROLLOUT))
        await publish_roles(state, keyring, home.storage, {ROLLOUT: rollout}, now)
    return {region: channels[channel] for region, channels in changed.items() if channel in channels}
