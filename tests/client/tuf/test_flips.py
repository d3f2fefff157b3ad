"""Every byte and every bit of every metadata file: none may change without being refused (faults.md, row 5).

A refused file must leave the client as it was: after all the damaged ones the good one is accepted by the same set.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from coldchain.errors import ColdchainError
from tests.client.tuf.repository import Repository, trusted_up_to

FILES = ["root", "timestamp", "snapshot", "targets", "us", "rollout"]


def repository() -> Repository:
    """Root 2 is signed by exactly its threshold: a signature beyond it may break without harm."""
    made = Repository()
    made.publish_root()
    return made


def each_refused(kind: str, damaged: Iterator[bytes]) -> int:
    _, offer, good = trusted_up_to(repository(), kind)
    count = 0
    for data in damaged:
        try:
            offer(data)
        except ColdchainError:
            count += 1
        else:
            pytest.fail(f"{kind}: accepted {data!r}")
    offer(good)
    return count


@pytest.mark.parametrize("kind", FILES)
def test_every_byte_flip_is_refused(kind: str) -> None:
    _, _, good = trusted_up_to(repository(), kind)
    flipped = (good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in range(len(good)))
    assert each_refused(kind, flipped) == len(good)


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_refused(kind: str) -> None:
    _, _, good = trusted_up_to(repository(), kind)
    assert each_refused(kind, (good[:i] for i in range(len(good)))) == len(good)


@pytest.mark.parametrize("kind", FILES)
def test_every_swap_with_another_valid_file_is_refused(kind: str) -> None:
    made = repository()
    made.publish("targets", "us", "rollout")
    _, offer, good = trusted_up_to(made, kind)
    for other in made.files.values():
        if other != good:
            with pytest.raises(ColdchainError):
                offer(other)
    offer(good)


@pytest.mark.faults
@pytest.mark.parametrize("kind", FILES)
def test_every_bit_flip_is_refused(kind: str) -> None:
    _, _, good = trusted_up_to(repository(), kind)
    flipped = (good[:i] + bytes([good[i] ^ 1 << bit]) + good[i + 1 :] for i in range(len(good)) for bit in range(8))
    count = each_refused(kind, flipped)
    print(f"{kind}: {count} of {8 * len(good)} bit flips refused")
    assert count == 8 * len(good)


@pytest.mark.faults
@pytest.mark.parametrize("kind", FILES)
def test_every_byte_value_at_every_place_is_refused(kind: str) -> None:
    """A lost, doubled or foreign byte: structure characters and digits at every place."""
    _, _, good = trusted_up_to(repository(), kind)
    foreign = b'{}[]",:0-e \n\\\x00\xff'
    changed = (
        good[:i] + bytes([byte]) + good[i + 1 :] for i in range(len(good)) for byte in foreign if byte != good[i]
    )
    lost = (good[:i] + good[i + 1 :] for i in range(len(good)))
    assert each_refused(kind, changed) > 10 * len(good)
    assert each_refused(kind, lost) == len(good)
