"""Synthetic ClamAV hash databases whose information is known exactly, for any size and in two releases.

A record is ``hash:size:Type.Category.Family-ID-REV``. Hashes are uniform; a record's family follows Zipf's law (exponent 1.15)
over 4,000 families and fixes its type; IDs come from one counter that grows by 1 (probability 0.7) or by 1 + a geometric number
(0.5); REV is 1 in one record of twenty, otherwise 0; a quarter of the sizes comes from the type's 200 common sizes (Zipf, 0.8),
the rest is log-normal, rounded down. Means and spreads are those seen in real ClamAV databases.

**Two limits** are told for a set of k records. *Exact*: the hash bits and the model's code lengths of IDs, families, revisions
and sizes; IDs ascend, so their gaps already say nothing of the order of records. *By compressors*, as the goal is worded: the
hash bits less log2(k!), because a set has no order, and sizes and names in hash order as the best of zstd -22, xz -9e and bzip2
-9 packs these two columns; or, where that is less, the hash bits and the two columns packed in the order of IDs. For removed
records both add the logarithm of the number of ways to choose them.

Worked example: 2,000 records of SHA-256 out of the 500,000 + 2,000: 64,000 bytes of hashes, about 3 bytes each for all else.
"""

from __future__ import annotations

import bz2
import lzma
import math
import re
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import zstandard

FAMILIES: Final = 4000
COMMON: Final = 200
_STEP, _REVISED, _COMMON_SHARE = 0.7, 0.05, 0.25
_TYPES: Final = ("Win", "Pdf", "Html", "Js", "Doc", "Unix", "Andr", "Osx")
_SPREADS: Final = ((12.6, 1.7), (11.2, 1.3), (9.6, 1.2), (9.1, 1.4), (11.5, 0.9), (10.8, 1.6), (13.9, 1.2), (12.1, 1.5))
_CATEGORIES: Final = ("Trojan", "Malware", "Dropper", "Downloader", "Worm", "Ransomware", "Packed", "Virus", "Exploit")
_SYLLABLES: Final = tuple(re.findall("..", "agenkazurimobldoquboshivalocryptoxefogemajaspydr"))

Bits: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Records:
    """Records in the order of their IDs."""

    hashes: bytes
    width: int
    families: Any
    ids: Any
    gaps: Any
    revisions: Any
    sizes: Any

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Limit:
    """Bytes below which no coder can go: by the model, and by the best compressor of sizes and names (None: not asked for)."""

    exact: float
    compressors: float | None


class Model:
    """One source of records; each call continues its counter."""

    def __init__(self, width: int, seed: int = 1) -> None:
        self.width = width
        self._random = np.random.default_rng([seed, width])
        weights = 1 / np.arange(1, FAMILIES + 1) ** 1.15
        self._weights = weights / weights.sum()
        self._types = self._random.choice(len(_TYPES), FAMILIES, p=[0.5, 0.1, 0.1, 0.08, 0.08, 0.06, 0.05, 0.03])
        self.names = [self._name(index) for index in range(FAMILIES)]
        common = 1 / np.arange(1, COMMON + 1) ** 0.8
        self._common_weights = common / common.sum()
        self._common = np.array([np.unique(self._lognormal(kind, 4 * COMMON))[:COMMON] for kind in range(len(_TYPES))])
        for row in self._common:
            self._random.shuffle(row)
        self._id = 1_000_000

    def _name(self, index: int) -> str:
        category = _CATEGORIES[min(int(self._random.exponential(2)), len(_CATEGORIES) - 1)]
        word = "".join(self._random.choice(_SYLLABLES, self._random.integers(2, 5))).capitalize()
        return f"{_TYPES[self._types[index]]}.{category}.{'Agent' if index < 6 else word}"

    def _lognormal(self, kind: int, count: int) -> Any:
        mean, spread = _SPREADS[kind]
        return np.clip(np.exp(self._random.normal(mean, spread, count)), 1, 2**30).astype(np.int64)

    def records(self, count: int) -> Records:
        """The next ``count`` records."""
        random = self._random
        families = random.choice(FAMILIES, count, p=self._weights)
        gaps = np.where(random.random(count) < _STEP, 1, 1 + random.geometric(0.5, count))
        ids = self._id + np.cumsum(gaps)
        self._id = int(ids[-1])
        sizes = np.zeros(count, np.int64)
        kinds = self._types[families]
        for kind in range(len(_TYPES)):
            places = np.nonzero(kinds == kind)[0]
            usual = random.choice(self._common[kind], len(places), p=self._common_weights)
            seldom = self._lognormal(kind, len(places))
            sizes[places] = np.where(random.random(len(places)) < _COMMON_SHARE, usual, seldom)
        hashes = random.bytes(count * self.width)
        return Records(hashes, self.width, families, ids, gaps, (random.random(count) < _REVISED).astype(int), sizes)

    def lines(self, records: Records) -> list[bytes]:
        """The records as a database has them, in the order of IDs."""
        text, wide, names = records.hashes.hex(), 2 * records.width, self.names
        columns = zip(
            records.sizes.tolist(),
            records.families.tolist(),
            records.ids.tolist(),
            records.revisions.tolist(),
            strict=True,
        )
        return [
            f"{text[wide * i : wide * i + wide]}:{size}:{names[family]}-{number}-{revision}".encode()
            for i, (size, family, number, revision) in enumerate(columns)
        ]

    def limit(self, records: Records, *, compressors: bool = True) -> Limit:
        """What ``records`` weigh as a set."""
        hashes = 8 * records.width * len(records)
        exact = (hashes + float(self._bits(records).sum())) / 8
        return Limit(exact, self._by_compressors(records, hashes) / 8 if compressors else None)

    def _bits(self, records: Records) -> Bits:
        """Code length of each record without its hash."""
        gap = np.where(records.gaps == 1, math.log2(_STEP), math.log2(1 - _STEP) - (records.gaps - 1.0))
        revision = np.where(records.revisions == 1, math.log2(_REVISED), math.log2(1 - _REVISED))
        family = np.log2(self._weights)[records.families]
        size = np.zeros(len(records))
        kinds = self._types[records.families]
        for kind in range(len(_TYPES)):
            places = np.nonzero(kinds == kind)[0]
            values = records.sizes[places]
            seldom = _normal(np.log(values + 1), kind) - _normal(np.log(values), kind)
            order = np.argsort(self._common[kind])
            found = np.minimum(np.searchsorted(self._common[kind][order], values), COMMON - 1)
            is_common = self._common[kind][order][found] == values
            usual = np.where(is_common, self._common_weights[order][found], 0)
            size[places] = np.log2(_COMMON_SHARE * usual + (1 - _COMMON_SHARE) * np.maximum(seldom, 1e-12))
        total: Bits = -(gap + revision + family + size)
        return total

    def _by_compressors(self, records: Records, hashes: int) -> float:
        rows = [line.split(b":") for line in self.lines(records)]
        by_id = _packed(rows)
        by_hash = _packed(sorted(rows))
        return min(hashes + 8 * by_id, hashes - log2_factorial(len(rows)) + 8 * by_hash)


def _normal(values: Bits, kind: int) -> Bits:
    mean, spread = _SPREADS[kind]
    error = np.array([math.erf(value) for value in ((values - mean) / spread / math.sqrt(2)).tolist()])
    result: Bits = (1 + error) / 2
    return result


def _packed(rows: list[list[bytes]]) -> int:
    return sum(best_packed(b"\n".join(row[column] for row in rows)) for column in (1, 2))


def best_packed(data: bytes) -> int:
    """The least that zstd -22, xz -9e and bzip2 -9 make of it."""
    xz = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_NONE, 9 | lzma.PRESET_EXTREME)
    return min(len(zstandard.compress(data, 22)), len(xz), len(bz2.compress(data, 9)))


def log2_factorial(count: int) -> float:
    """log2(count!)."""
    return math.lgamma(count + 1) / math.log(2)


def log2_choices(count: int, chosen: int) -> float:
    """log2 of the number of ways to choose so many out of so many."""
    return log2_factorial(count) - log2_factorial(chosen) - log2_factorial(count - chosen)


def removal_bytes(count: int, removed: int) -> float:
    """What it takes to say which of ``count`` records go."""
    return log2_choices(count, removed) / 8
