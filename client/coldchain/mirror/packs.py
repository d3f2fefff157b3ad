"""Packs in a mirror: for endpoints without a network, made from the mirror's own files and kept beside them.

::

    packs/us/stable/latest.pack             the newest release as the full bundle: for any endpoint
    packs/us/stable/latest.from-41.pack     the delta from release 41

A pack carries the metadata of the generation it was made of and is good as long as that is, so each generation's packs replace the
ones before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime

from coldchain.agent.make_pack import Wanted, make_pack
from coldchain.errors import NotPublishedError
from coldchain.install import public_log, trusted
from coldchain.install.directory import ROOT_POLICY
from coldchain.limits import Limits
from coldchain.mirror import generation
from coldchain.mirror.directory import MirrorConfig, MirrorDirectory
from coldchain.mirror.tree import Tree
from coldchain.verify import channels, region_release


async def make_packs(
    directory: MirrorDirectory,
    config: MirrorConfig,
    tree: Tree,
    known: Mapping[str, str],
    now: datetime,
    limits: Limits,
) -> dict[str, str]:
    """Makes every pack that is missing or of another generation.

    Args:
        directory: the mirror's, its lock held and a generation published.
        config: what it follows.
        tree: the published files.
        known: which generation each pack was made of, as the last run noted.
        now: the time.
        limits: bounds.

    Returns:
        By path of every pack: the generation it was made of.

    Raises:
        ColdchainError: as :func:`coldchain.agent.make_pack.make_pack` raises it.
    """
    served = {name: generation.read(directory, name) or b"" for name in generation.served(directory)}
    roots = sorted(int(name.partition(".")[0]) for name in served if name.endswith(".root.json"))
    stamp = hashlib.sha256(served[generation.TIMESTAMP]).hexdigest()[:16]
    with directory.own.folder() as here:
        policy = None if config.policy == ROOT_POLICY else here.read(public_log.POLICY, limits.log_policy_bytes)
    out: dict[str, str] = {}
    for region in config.regions:
        role = trusted.recall(
            trusted.stored(directory.own, config.of(region), limits), config.of(region), limits=limits
        ).role(region)
        for channel in channels(role):
            release = region_release(role, region, channel, product=config.product, limits=limits)
            for start in (None, *sorted(release.deltas)):
                path = f"packs/{region}/{channel}/latest{f'.from-{start}' if start else ''}.pack"
                if known.get(path) != stamp or tree.length(path) is None:
                    output = directory.own.staging / "a.pack"
                    wanted = Wanted(region, channel, start, config.product, policy)
                    first = served[f"{roots[0]}.root.json"]
                    try:
                        await make_pack(str(directory.path), first, output, wanted, now, limits=limits)
                    except NotPublishedError:
                        continue  # the manifests do not lead back so far: the full one serves those endpoints
                    tree.move_file_in(path, output.name)
                out[path] = stamp
    return out
