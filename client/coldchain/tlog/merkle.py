r"""The Merkle tree of the log: hashes, inclusion proofs, consistency proofs. RFC 6962 section 2.1 with SHA-256.

::

    leaf   = SHA256(0x00 || entry)                 empty tree = SHA256("") = e3b0c442…7852b855
    node   = SHA256(0x01 || left || right)
    root of n > 1 leaves = node(root of the first k, root of the rest), k = largest power of two strictly below n

    leaves a, b, c:  022a6979…24f93c  57eb3561…7b6a31  597fcb31…f876d8
    root(a, b, c)  = 36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1

A tree of n leaves is a row of complete subtrees, one for each bit set in n, largest first. A complete subtree of ``2**level``
leaves never changes once it is there, so it has an address: :class:`Node` ``(level, index)`` covers the leaves from
``index * 2**level``. Every proof is made from such nodes; whoever proves passes a reader that returns their hashes
(``tiles.TileReader`` reads them from tiles and checks them), whoever checks needs nothing but the proof::

    proof = prove_inclusion(index, size, read)         check_inclusion(proof, index, size, root, leaf)
    proof = prove_consistency(old, new, read)          check_consistency(proof, old, old_root, new, new_root)

An inclusion proof lists the siblings from the leaf up: first those inside the subtree the leaf shares with the tree's right
edge (``inner``), then the complete subtrees left of that edge (``border``). A consistency proof is the inclusion proof of the
old tree's last complete subtree, preceded by that subtree's hash unless it is the whole old tree::

    7 leaves:      root           inclusion of leaf 2 in 7:  [leaf 3, a, f]
                 e      f         consistency of 3 and 7:    [leaf 2, leaf 3, a, f]
               a   b   c \
              0 1 2 3 4 5 6       a = (1, 0), b = (1, 1), c = (1, 2), e = (2, 0); f is no complete subtree: node(c, leaf 6)

No proof of more than 63 hashes is looked at (C2SP's bound). Inclusion never needs more; a consistency proof would need 64 for
some trees of more than 2**62 leaves, which at a million entries a second take 146,000 years to grow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from coldchain.errors import EvidenceError, MalformedError
from coldchain.limits import LIMITS
from coldchain.tlog.spellings import MAX_NUMBER

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """The complete subtree over the leaves ``[index << level, (index + 1) << level)``."""

    level: int
    index: int


HashReader = Callable[[Sequence[Node]], Sequence[bytes]]
"""Returns the hashes of complete subtrees, in the order asked. Called once per proof with all it needs."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry's bytes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbouring subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


# Trees as rows of complete subtrees


def subtrees(start: int, end: int) -> list[Node]:
    """The complete subtrees, from left to right, that make up the range of leaves ``[start, end)``.

    ``start`` must be a multiple of the largest power of two that fits into the range, as it is for every range that
    RFC 6962 splits a tree into: ``subtrees(0, 7)`` is ``[Node(2, 0), Node(1, 2), Node(0, 6)]``.
    """
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        found.append(Node(level, start >> level))
        start += 1 << level
    return found


def join(hashes: Sequence[bytes]) -> bytes:
    """The root over a row of complete subtrees, largest first (as :func:`subtrees` lists them)."""
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 1, 2, 4, 8 … neighbouring hashes of one level."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def root_from_leaves(leaves: Iterable[bytes]) -> bytes:
    """The root over leaf hashes, in memory of their number's logarithm."""
    row: list[bytes] = []
    for count, leaf in enumerate(leaves):
        done = leaf
        for _ in range((count ^ (count + 1)).bit_length() - 1):  # as many carries as adding one to count makes
            done = node_hash(row.pop(), done)
        row.append(done)
    return join(row)


def tree_root(size: int, read: HashReader) -> bytes:
    """The root of a tree of ``size`` leaves whose subtrees ``read`` knows."""
    _check_size(size)
    return join(_read(read, subtrees(0, size)))


# Inclusion


def inclusion_ranges(index: int, size: int) -> list[list[Node]]:
    """Which subtrees each hash of an inclusion proof is joined from, in the proof's order.

    Raises:
        EvidenceError: no such leaf in a tree of that size.
    """
    _check_size(size)
    if not 0 <= index < size:
        raise EvidenceError(f"entry {index} is not in a log of {size} entries")
    return _path(index, index + 1, size)


def prove_inclusion(index: int, size: int, read: HashReader) -> list[bytes]:
    """The proof that leaf ``index`` is in the tree of ``size`` leaves.

    Raises:
        EvidenceError: no such leaf in a tree of that size, or what ``read`` raises.
    """
    return _join_ranges(inclusion_ranges(index, size), read)


def check_inclusion(proof: Sequence[bytes], index: int, size: int, root: bytes, leaf: bytes) -> None:
    """Checks that ``leaf`` (a leaf hash) is entry ``index`` of the tree with this size and root.

    Raises:
        MalformedError: a hash that is not 32 bytes.
        EvidenceError: index outside the tree, a wrong number of hashes, another root.
    """
    _check_hashes([root, leaf, *proof])
    _check_size(size)
    if not 0 <= index < size:
        raise EvidenceError(f"inclusion proof: entry {index} is not in a log of {size} entries")
    inner, border = _shape(index, size)
    if len(proof) != inner + border:
        raise EvidenceError(f"inclusion proof: {len(proof)} hashes where {inner + border} belong")
    found = _climb(leaf, proof[:inner], index)
    if _add_left(found, proof[inner:]) != root:
        raise EvidenceError(f"inclusion proof: entry {index} is not under this root")


# Consistency


def consistency_ranges(old: int, new: int) -> list[list[Node]]:
    """Which subtrees each hash of a consistency proof is joined from, in the proof's order.

    Raises:
        EvidenceError: the old tree is larger than the new one.
    """
    _check_size(new)
    if not 0 <= old <= new:
        raise EvidenceError(f"a log of {new} entries cannot continue one of {old}")
    if old in (0, new):
        return []
    level = (old & -old).bit_length() - 1
    seed = Node(level, (old >> level) - 1)  # the last complete subtree of the old tree
    path = _path(old - (1 << level), old, new)
    return path if old == 1 << level else [[seed], *path]


def prove_consistency(old: int, new: int, read: HashReader) -> list[bytes]:
    """The proof that the tree of ``old`` leaves is the beginning of the tree of ``new`` leaves.

    Raises:
        EvidenceError: the old tree is larger than the new one, or what ``read`` raises.
    """
    return _join_ranges(consistency_ranges(old, new), read)


def check_consistency(proof: Sequence[bytes], old: int, old_root: bytes, new: int, new_root: bytes) -> None:
    """Checks that the tree (``new``, ``new_root``) begins with the tree (``old``, ``old_root``).

    Two trees of one size have an empty proof and the same root. Everything begins with the empty tree: its proof is
    empty too, and its root must be :data:`EMPTY_ROOT`.

    Raises:
        MalformedError: a hash that is not 32 bytes.
        EvidenceError: the old tree is larger, a wrong number of hashes, another root.
    """
    _check_hashes([old_root, new_root, *proof])
    _check_size(new)
    if not 0 <= old <= new:
        raise EvidenceError(f"consistency proof: a log of {new} entries cannot continue one of {old}")
    for size, root in ((old, old_root), (new, new_root)):
        if size == 0 and root != EMPTY_ROOT:
            raise EvidenceError("consistency proof: the root of an empty log is another one")
    if old in (0, new):
        if proof:
            raise EvidenceError(f"consistency proof: {len(proof)} hashes where none belongs")
        if old == new and old_root != new_root:
            raise EvidenceError(f"consistency proof: two roots for one size {new}")
        return
    level = (old & -old).bit_length() - 1
    index = (old >> level) - 1  # the old tree's last complete subtree, and its path upward, counted from its own level
    inner, border = _shape(index << level, new)
    inner -= level
    alone = index == 0
    expected = inner + border + (not alone)
    if len(proof) != expected:
        raise EvidenceError(f"consistency proof: {len(proof)} hashes where {expected} belong")
    seed, path = (old_root, proof) if alone else (proof[0], proof[1:])
    left_only = [sibling for i, sibling in enumerate(path[:inner]) if index >> i & 1]
    if _add_left(_add_left(seed, left_only), path[inner:]) != old_root:
        raise EvidenceError(f"consistency proof: the log does not continue the one of {old} entries that is known here")
    if _add_left(_climb(seed, path[:inner], index), path[inner:]) != new_root:
        raise EvidenceError(f"consistency proof: the log of {new} entries has another root")


def growth_by_last(index: int, proof: Sequence[bytes], leaf: bytes) -> list[bytes]:
    """The consistency proof from ``index`` to ``index + 1`` leaves, which a good inclusion proof of the last leaf holds.

    Example, 3 leaves and then 4: the inclusion proof of leaf 3 is ``[leaf 2, a]``, and this one ``[leaf 2, leaf 3, a]``.

    Args:
        index: of the last leaf; at least 1.
        proof: that it is in the tree of ``index + 1`` leaves, checked.
        leaf: its hash.
    """
    alone = index & (index - 1) == 0  # the old tree is one complete subtree, whose root is known
    return [*([] if alone else proof[:1]), leaf, *proof[1:]]


# The parts both have in common


def _shape(index: int, size: int) -> tuple[int, int]:
    """Lengths of a path's two parts: while leaf ``index`` and the last leaf are in different subtrees, and after."""
    inner = (index ^ (size - 1)).bit_length()
    return inner, (index >> inner).bit_count()


def _path(start: int, end: int, size: int) -> list[list[Node]]:
    """The siblings of the complete subtree ``[start, end)`` in a tree of ``size``, from below."""
    low, high, path = 0, size, []
    while (low, high) != (start, end):
        middle = low + (1 << ((high - low - 1).bit_length() - 1))
        if start < middle:
            path.append(subtrees(middle, high))
            high = middle
        else:
            path.append(subtrees(low, middle))
            low = middle
    path.reverse()
    return path


def _climb(found: bytes, siblings: Sequence[bytes], index: int) -> bytes:
    for i, sibling in enumerate(siblings):
        found = node_hash(sibling, found) if index >> i & 1 else node_hash(found, sibling)
    return found


def _add_left(found: bytes, siblings: Sequence[bytes]) -> bytes:
    for sibling in siblings:
        found = node_hash(sibling, found)
    return found


def _join_ranges(ranges: Sequence[Sequence[Node]], read: HashReader) -> list[bytes]:
    hashes = iter(_read(read, [node for nodes in ranges for node in nodes]))
    return [join([next(hashes) for _ in nodes]) for nodes in ranges]


def _read(read: HashReader, nodes: Sequence[Node]) -> Sequence[bytes]:
    hashes = read(nodes)
    if len(hashes) != len(nodes):
        raise EvidenceError(f"{len(hashes)} hashes were read where {len(nodes)} were asked for")
    return hashes


def _check_size(size: int) -> None:
    if not 0 <= size <= MAX_NUMBER:
        raise EvidenceError("a log has 0 to 2^63-1 entries")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if len(hashes) > LIMITS.proof_hashes + 2:
        raise MalformedError(f"proof: more than {LIMITS.proof_hashes} hashes")
    if any(len(one) != HASH_BYTES for one in hashes):
        raise MalformedError("proof: a hash that is not 32 bytes")
