"""Published packs in a mirror, or an edge: made here, of its own files, as the origin makes them (:mod:`coldchain.published_packs`).

::

    packs/us/stable/107.from-41.pack      in its place before the generation that names snapshot 107 is switched to
    packs/us/stable/104.from-41.pack      too old: gone once that is done; the ones between stay for their grace

They cost the source nothing, and an endpoint gets from a mirror in one request what it would get from the origin. It does without them
where the disk has no room for them.
"""

from __future__ import annotations

from coldchain.errors import StorageError
from coldchain.mirror.directory import MirrorConfig
from coldchain.mirror.tree import Tree
from coldchain.published_packs import FOLDER, Packs, is_stale, published_packs
from coldchain.tuf.trusted_set import TrustedSet


def place_packs(tree: Tree, config: MirrorConfig, found: TrustedSet, *, again: bool) -> set[str]:
    """Puts the packs of a state that is about to be served in their places.

    Args:
        tree: the published files; all that this state names are there.
        config: what the mirror follows.
        found: the state, verified.
        again: write those anew that seem to be there.

    Returns:
        The paths of all that are there.
    """
    placed: set[str] = set()
    try:
        for pack in _made(tree, config, found).made:
            if again or tree.length(pack.path) != pack.length:
                tree.put_joined(pack.path, pack.head, pack.content)
            placed.add(pack.path)
    except StorageError:
        return placed
    return placed


def drop_old_packs(tree: Tree, snapshot: int) -> int:
    """Removes those that are of no use beside this snapshot's; returns their bytes."""
    return sum(tree.remove(path) for path in tree.files(FOLDER.rstrip("/")) if is_stale(path, snapshot))


def _made(tree: Tree, config: MirrorConfig, found: TrustedSet) -> Packs:
    roots = {f"metadata/{found.root.version}.root.json": found.root.raw}
    steps = published_packs(found, config.regions, config.product, found.limits)
    data: bytes | None = None
    while True:
        try:
            wanted = steps.send(data)
        except StopIteration as done:
            packs: Packs = done.value
            return packs
        data = roots.get(wanted.path) or tree.read(wanted.path, wanted.max_bytes)
