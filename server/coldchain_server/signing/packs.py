"""Placing the packs of a state that is about to be published (:mod:`coldchain.published_packs`): before the timestamp that names it.

::

    leftovers    packs of this snapshot or later ones, of a publish that died before its timestamp, go
    packs        for every region, channel and release on the ladder, from the files that are published and those about to be
    old ones     of more than KEPT snapshots ago, go once the timestamp is out

Endpoints do without packs, so whatever keeps one from being made keeps nobody from publishing: it is logged, and that is all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from coldchain.errors import ColdchainError
from coldchain.published_packs import FOLDER, Packs, PublishedPack, is_stale, published_packs, snapshot_of
from coldchain.tuf.trusted_set import TrustedSet
from coldchain_server.signing.roles import ROLLOUT, RoleState
from coldchain_server.storage.interface import Storage

_log: Final = logging.getLogger("coldchain.origin")


async def put_packs(storage: Storage, state: RoleState, found: TrustedSet, files: Mapping[str, bytes]) -> None:
    """Places the packs of a new snapshot.

    Args:
        storage: the published tree; the caller holds the publisher's lock.
        state: what is published now.
        found: what is about to be, walked by the client's code.
        files: path -> bytes of the role files about to go out.
    """
    snapshot = found.snapshot.version
    try:
        async for path in storage.list(FOLDER):
            if snapshot_of(path) >= snapshot:
                await storage.delete(path)
        packs = await _made(storage, state, found, files)
        for pack in packs.made:
            await _put(storage, pack)
    except ColdchainError as error:
        packs = Packs(left_out=[error.what])
    if packs.left_out:
        _log.warning("packs are missing; endpoints fetch the files one by one", extra={"left_out": packs.left_out})


async def drop_old_packs(storage: Storage, snapshot: int) -> None:
    """Removes the packs that have no place beside those of this snapshot, which is published. It fails nobody."""
    try:
        async for path in storage.list(FOLDER):
            if is_stale(path, snapshot):
                await storage.delete(path)
    except ColdchainError as error:
        _log.warning("old packs are still there", extra={"error": error.what})


async def _made(storage: Storage, state: RoleState, found: TrustedSet, files: Mapping[str, bytes]) -> Packs:
    regions = [name for name in state.delegated if name != ROLLOUT and found.loaded(name) is not None]
    if not regions or found.loaded(ROLLOUT) is None:
        return Packs()
    product = state.delegated[regions[0]].signed.unrecognized_fields["coldchain"]["product"]
    steps = published_packs(found, regions, product)
    data: bytes | None = None
    while True:
        try:
            wanted = steps.send(data)
        except StopIteration as done:
            packs: Packs = done.value
            return packs
        if wanted.path in files:
            data = files[wanted.path]
        else:
            data = await storage.get(wanted.path) if await storage.stat(wanted.path) is not None else None


async def _put(storage: Storage, pack: PublishedPack) -> None:
    if pack.content:
        await storage.put_joined(pack.path, pack.head, pack.content, replace=True)
    else:
        await storage.put(pack.path, pack.head, replace=True)
