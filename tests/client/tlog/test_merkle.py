"""Trees: every proof of every size up to 256, against RFC 6962 written down word by word; nothing else is accepted."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import EvidenceError, MalformedError
from coldchain.tlog.merkle import (
    EMPTY_ROOT,
    Node,
    check_consistency,
    check_inclusion,
    complete_root,
    consistency_ranges,
    growth_by_last,
    inclusion_ranges,
    leaf_hash,
    node_hash,
    prove_consistency,
    prove_inclusion,
    root_from_leaves,
    subtrees,
    tree_root,
)
from tests.client.tlog.logs import vectors

MOST = 256
LEAVES = [leaf_hash(b"%d" % number) for number in range(MOST)]


# RFC 6962 section 2.1, as it stands there


@cache
def mth(start: int, end: int) -> bytes:
    if end - start == 1:
        return LEAVES[start]
    k = split(end - start)
    return node_hash(mth(start, start + k), mth(start + k, end))


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, start: int, end: int) -> list[bytes]:
    n = end - start
    if n == 1:
        return []
    k = split(n)
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = split(n)
    if m <= k:
        return [*subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


def read(nodes: Sequence[Node]) -> list[bytes]:
    return [mth(node.index << node.level, (node.index + 1) << node.level) for node in nodes]


def refused(check: Callable[..., None], *arguments: object) -> bool:
    try:
        check(*arguments)
    except (EvidenceError, MalformedError):
        return True
    return False


# Roots


def test_the_worked_example() -> None:
    leaves = [leaf_hash(entry) for entry in (b"a", b"b", b"c")]
    assert [leaf.hex()[:8] for leaf in leaves] == ["022a6979", "57eb3561", "597fcb31"]
    assert root_from_leaves(leaves).hex() == "36642e73c2540ab121e3a6bf9545b0a24982cd830eb13d3cd19de3ce6c021ec1"
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert subtrees(0, 7) == [Node(2, 0), Node(1, 2), Node(0, 6)]
    a, b, c, f = mth(0, 2), mth(2, 4), mth(4, 6), mth(4, 7)
    assert read([Node(1, 0), Node(1, 1), Node(1, 2), Node(2, 0)]) == [a, b, c, mth(0, 4)]
    assert f == node_hash(c, LEAVES[6])
    assert prove_inclusion(2, 7, read) == [LEAVES[3], a, f]
    assert prove_consistency(3, 7, read) == [LEAVES[2], LEAVES[3], a, f]


def test_the_root_of_every_size() -> None:
    assert root_from_leaves([]) == tree_root(0, read) == EMPTY_ROOT
    for size in range(1, MOST + 1):
        assert root_from_leaves(LEAVES[:size]) == tree_root(size, read) == mth(0, size)
    for level in range(9):
        assert complete_root(LEAVES[: 1 << level]) == mth(0, 1 << level)


def test_a_leaf_is_no_node() -> None:
    """Second preimages: two leaves' hashes, offered as an entry, are not the node over them."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])
    assert root_from_leaves([mth(0, 2)]) != root_from_leaves([leaf_hash(LEAVES[0] + LEAVES[1])])


# Every proof


def alterations(proof: list[bytes], turn: int) -> list[list[bytes]]:
    """Proofs that must not pass: a hash more, less, altered, in another place. For long ones a few of these, in turn."""
    wrong = [[*proof, LEAVES[0]], [LEAVES[0], *proof], [*proof, b"\0" * 32]]
    if proof:
        at = turn % len(proof)
        bit = turn % 256
        altered = bytearray(proof[at])
        altered[bit // 8] ^= 1 << bit % 8
        wrong += [proof[:-1], proof[1:], [*proof[:at], bytes(altered), *proof[at + 1 :]]]
        wrong += [[*proof[:at], *proof[at + 1 :]], [*proof[:at], proof[at], *proof[at:]]]
        if len(proof) > 1 and proof[0] != proof[at]:
            swapped = list(proof)
            swapped[0], swapped[at] = swapped[at], swapped[0]
            wrong.append(swapped)
    return wrong if turn < 64 * 64 else [wrong[(turn + i) % len(wrong)] for i in range(3)]


def test_every_inclusion_proof() -> None:
    turn = 0
    for size in range(1, MOST + 1):
        root = mth(0, size)
        for index in range(size):
            turn += 1
            leaf = LEAVES[index]
            proof = prove_inclusion(index, size, read)
            assert proof == path(index, 0, size)
            check_inclusion(proof, index, size, root, leaf)
            for wrong in alterations(proof, turn):
                assert refused(check_inclusion, wrong, index, size, root, leaf), (index, size)
            for other in {index - 1, index + 1, index ^ (1 << turn % 8), turn % size} - {index}:
                assert refused(check_inclusion, proof, other, size, root, leaf), (index, size, other)
            other = turn % MOST
            assert (other == index) != refused(check_inclusion, proof, index, size, root, LEAVES[other])
            # the size is bound by the checkpoint: with the size goes the root
            for other in {size - 1, size + 1, turn % MOST} - {size, 0, MOST + 1}:
                assert refused(check_inclusion, proof, index, other, mth(0, other), leaf), (index, size, other)
                if len(path(index, 0, other) if index < other else []) != len(proof):
                    assert refused(check_inclusion, proof, index, other, root, leaf), (index, size, other)


def test_every_consistency_proof() -> None:
    turn = 0
    for new in range(1, MOST + 1):
        new_root = mth(0, new)
        for old in range(1, new + 1):
            turn += 1
            old_root = mth(0, old)
            proof = prove_consistency(old, new, read)
            assert proof == subproof(old, 0, new, True)
            check_consistency(proof, old, old_root, new, new_root)
            for wrong in alterations(proof, turn):
                assert refused(check_consistency, wrong, old, old_root, new, new_root), (old, new)
            for other in {old - 1, old + 1, turn % MOST} - {old}:
                assert refused(check_consistency, proof, other, old_root, new, new_root), (old, new, other)
                if 0 < other <= MOST:
                    assert refused(check_consistency, proof, old, mth(0, other), new, new_root), (old, new, other)
                    if proof:
                        assert refused(check_consistency, proof, other, mth(0, other), new, new_root), (old, new, other)
            for other in {new - 1, new + 1, turn % MOST} - {new, 0, MOST + 1}:
                assert refused(check_consistency, proof, old, old_root, new, mth(0, other)), (old, new, other)
                if (other, old_root) != (old, mth(0, other)) or proof:
                    assert refused(check_consistency, proof, old, old_root, other, mth(0, other)), (old, new, other)
            if old != new:
                assert refused(check_consistency, proof, new, new_root, old, old_root)


def test_everything_continues_the_empty_log() -> None:
    for new in range(MOST + 1):
        root = mth(0, new) if new else EMPTY_ROOT
        assert prove_consistency(0, new, read) == []
        check_consistency([], 0, EMPTY_ROOT, new, root)
        assert refused(check_consistency, [root], 0, EMPTY_ROOT, new, root)
        assert refused(check_consistency, [], 0, LEAVES[0], new, root)
    assert refused(check_consistency, [], 0, LEAVES[0], 0, LEAVES[0])


def test_hashes_are_32_bytes() -> None:
    proof = prove_inclusion(2, 7, read)
    for at, length in itertools.product(range(len(proof) + 2), (0, 31, 33, 64)):
        hashes = [*proof, mth(0, 7), LEAVES[2]]
        hashes[at] = (hashes[at] * 2)[:length]
        with pytest.raises(MalformedError, match="32 bytes"):
            check_inclusion(hashes[:-2], 2, 7, hashes[-2], hashes[-1])
    proof = prove_consistency(3, 7, read)
    for at, length in itertools.product(range(len(proof) + 2), (0, 31, 33, 64)):
        hashes = [*proof, mth(0, 3), mth(0, 7)]
        hashes[at] = (hashes[at] * 2)[:length]
        with pytest.raises(MalformedError, match="32 bytes"):
            check_consistency(hashes[:-2], 3, hashes[-2], 7, hashes[-1])


@pytest.mark.parametrize("size", [-1, 2**63, 2**64])
def test_no_tree_has_that_many_leaves(size: int) -> None:
    with pytest.raises(EvidenceError):
        check_inclusion([], 0, size, LEAVES[0], LEAVES[0])
    with pytest.raises(EvidenceError):
        check_consistency([], size, LEAVES[0], size, LEAVES[0])
    with pytest.raises(EvidenceError):
        tree_root(size, read)
    for index in (-1, 7, 8, 2**63):
        with pytest.raises(EvidenceError):
            prove_inclusion(index, 7, read)
        with pytest.raises(EvidenceError):
            prove_consistency(index if index != 7 else 8, 7, read)


def test_a_reader_that_returns_too_little_is_an_error() -> None:
    with pytest.raises(EvidenceError):
        prove_inclusion(2, 7, lambda nodes: read(nodes)[1:])


# Trees too large to build: every leaf is the same, so one hash a level says it all

SAME = [LEAVES[0]]
for _ in range(63):
    SAME.append(node_hash(SAME[-1], SAME[-1]))


def read_same(nodes: Sequence[Node]) -> list[bytes]:
    return [SAME[node.level] for node in nodes]


SIZES = st.one_of(
    st.integers(1, 2**63 - 1), st.integers(0, 62).map(lambda n: 1 << n), st.integers(1, 63).map(lambda n: (1 << n) - 1)
)


@given(SIZES, st.data())
def test_proofs_of_any_size(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = tree_root(size, read_same)
    proof = prove_inclusion(index, size, read_same)
    assert len(proof) == len(inclusion_ranges(index, size)) <= (size - 1).bit_length() <= 63
    check_inclusion(proof, index, size, root, LEAVES[0])
    assert refused(check_inclusion, proof, index, size, root, LEAVES[1])
    old = data.draw(st.one_of(st.integers(1, size), st.just(index or 1)))
    proof = prove_consistency(old, size, read_same)
    assert len(proof) == len(consistency_ranges(old, size)) <= 64
    if len(proof) == 64:
        assert size > 2**62
        return
    check_consistency(proof, old, tree_root(old, read_same), size, root)
    for at in range(len(proof)):
        wrong = [*proof[:at], LEAVES[1], *proof[at + 1 :]]
        assert refused(check_consistency, wrong, old, tree_root(old, read_same), size, root)


def test_the_largest_proofs_there_are() -> None:
    size = 2**63 - 1
    assert len(prove_inclusion(0, size, read_same)) == 63
    for level in range(1, 62):
        assert len(prove_consistency(2**level + 1, 2**62, read_same)) <= 63
    # the one kind of proof that no reader of C2SP's formats takes: 64 hashes, above 2**62 leaves
    old, proof = 2**61 + 1, prove_consistency(2**61 + 1, size, read_same)
    assert len(proof) == 64
    assert refused(check_consistency, proof, old, tree_root(old, read_same), size, tree_root(size, read_same))
    with pytest.raises(MalformedError, match="more than 63"):
        check_inclusion([LEAVES[0]] * 66, 0, size, LEAVES[0], LEAVES[0])


@given(
    st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    st.integers(-2, 2**64),
    st.integers(-2, 2**64),
)
def test_no_bytes_crash_a_check(hashes: list[bytes], first: int, second: int) -> None:
    assert refused(check_inclusion, hashes, first, second, LEAVES[0], LEAVES[1])
    if first != 0:
        assert refused(check_consistency, hashes, first, LEAVES[0], second, LEAVES[1])


# Vectors


def cases(kind: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(vectors(f"merkle/{kind}").rglob("*.json"))]


def hashes(values: list[str] | None) -> list[bytes]:
    return [base64.b64decode(value) for value in values or []]


def test_vectors_of_inclusion() -> None:
    found = cases("inclusion")
    assert len(found) > 50
    for case in found:
        root, leaf = hashes([case["root"] or "", case["leafHash"] or ""])
        verdict = refused(check_inclusion, hashes(case["proof"]), case["leafIdx"], case["treeSize"], root, leaf)
        assert verdict == case["wantErr"], case["desc"]


def test_vectors_of_consistency() -> None:
    found = cases("consistency")
    assert len(found) > 50
    for case in found:
        old, new = hashes([case["root1"] or "", case["root2"] or ""])
        verdict = refused(check_consistency, hashes(case["proof"]), case["size1"], old, case["size2"], new)
        # one case expects success with "roots" of 12 bytes; here a hash is 32 bytes
        assert verdict == (case["wantErr"] or len(old) != 32), case["desc"]


def test_vectors_of_all_sizes_to_24() -> None:
    found = json.loads((vectors("merkle") / "all-sizes-to-24.json").read_text())
    assert len(found["inclusion"]) == len(found["consistency"]) == 450
    for case in found["inclusion"]:
        leaf, root = hashes([case["leaf"], case["root"]])
        verdict = refused(check_inclusion, hashes(case["proof"]), case["index"], case["size"], root, leaf)
        assert verdict != case["ok"], case
    for case in found["consistency"]:
        old, new = hashes([case["old_root"], case["new_root"]])
        assert refused(check_consistency, hashes(case["proof"]), case["old"], old, case["new"], new) != case["ok"], case


def test_the_inclusion_proof_of_the_last_leaf_holds_the_proof_of_its_growth() -> None:
    for size in range(2, MOST + 1):
        old = size - 1
        found = growth_by_last(old, prove_inclusion(old, size, read), LEAVES[old])
        assert found == prove_consistency(old, size, read)
        check_consistency(found, old, mth(0, old), size, mth(0, size))
