r"""Windows: old sections, whole and one after the other, that a compressed column may refer to.

New rules resemble the rules beside them and new lists the lists beside them, whether those changed or not. A window is written as
``varint runs``, then per run ``varint skip, varint take`` through the old sections in name order (canaries do not count); no runs
at all stand for every section. What it holds is bounded by ``Limits.zstd_dictionary_bytes``, which is checked before anything is read.

Worked example: of sections a to f, ``02 | 01 02 | 01 01`` is b, c and e.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

from coldchain.bundle.description import Section
from coldchain.bundle.varint import Reader, encode_varints
from coldchain.errors import MalformedError
from coldchain.limits import Limits

Open = Callable[[str], BinaryIO]
"""Section name -> its old content."""


def read_window(source: Reader, olds: list[Section], open_old: Open, limits: Limits) -> bytes:
    """The content of the window that stands next in ``source``.

    Raises:
        MalformedError: sections that are not there, or more than may be referred to.
    """
    taken: list[Section] = []
    runs = source.varint(len(olds))
    at = 0
    for _ in range(runs):
        at += source.varint(len(olds) - at)
        take = source.varint(len(olds) - at)
        taken += olds[at : at + take]
        at += take
    return read_sections(taken if runs else olds, open_old, limits)


def read_sections(sections: list[Section], open_old: Open, limits: Limits) -> bytes:
    """These sections one after the other, within the bound."""
    if sum(section.bytes for section in sections) > limits.zstd_dictionary_bytes:
        raise MalformedError("delta: a window is longer than allowed")
    content = bytearray()
    for section in sections:
        with open_old(section.name) as file:
            # Never more than the description says, even if the file on this disk has grown.
            content += file.read(section.bytes)
    return bytes(content)


def encode_window(places: list[int], count: int) -> bytes:
    """The writer's half: ``places`` ascending among ``count`` old sections."""
    if len(places) == count:
        return b"\0"
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][0] + runs[-1][1] == place:
            runs[-1][1] += 1
        else:
            runs.append([place, 1])
    values = [len(runs)]
    at = 0
    for start, take in runs:
        values += [start - at, take]
        at = start + take
    return encode_varints(values)
