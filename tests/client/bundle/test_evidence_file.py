from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.evidence_file import FORMAT, encode_evidence, read_evidence_file
from coldchain.bundle.manifest import BundleFacts, FeedFacts, FileFacts, GateCheck, Manifest, RegionFacts
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.checkpoint import Checkpoint
from coldchain.tlog.note import SignedNote
from coldchain.tlog.proof import OfflineProof
from tests.client.bundle.golden import GOLDEN
from tests.client.tlog.memory_log import MemoryLog


def text(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_the_worked_example_and_the_golden_file() -> None:
    data = encode_evidence(b"{}", None)
    assert zstandard.ZstdDecompressor().decompress(data) == b"coldchain-evidence-1\n{}\n"
    assert len(b"coldchain-evidence-1\n{}\n") == 24
    assert read_evidence_file(data) == (b"{}", None)
    manifest, proof = read_evidence_file((GOLDEN / "42.evidence.zst").read_bytes())
    assert manifest == (GOLDEN / "manifest.json").read_bytes()
    assert proof is not None
    assert proof.startswith(b"c2sp.org/tlog-proof@v1\n")


@given(st.binary(max_size=300).filter(lambda data: b"\n" not in data), st.none() | st.binary(min_size=1, max_size=300))
def test_what_goes_in_comes_out(manifest: bytes, proof: bytes | None) -> None:
    assert read_evidence_file(encode_evidence(manifest, proof)) == (manifest, proof)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        FORMAT,
        FORMAT + b"\n",
        FORMAT + b"\n{}",
        b"\n{}\n",
        b"coldchain-manifest-1\n{}\n",
        b"x" + FORMAT + b"\n{}\n",
    ],
)
def test_what_is_not_such_a_text_is_refused(content: bytes) -> None:
    with pytest.raises(MalformedError):
        read_evidence_file(text(content))


def test_a_later_version_is_newer() -> None:
    for form in (b"coldchain-evidence-2", b"coldchain-evidence-10", b"coldchain-evidence-\xff"):
        with pytest.raises(NewerFormatError):
            read_evidence_file(text(form + b"\n{}\n"))


@given(st.binary(max_size=100))
def test_foreign_bytes_raise_only_our_errors(data: bytes) -> None:
    for bad in (data, text(data), text(FORMAT + data), text(FORMAT + b"\n" + data)):
        try:
            manifest, proof = read_evidence_file(bad)
        except (MalformedError, NewerFormatError):
            continue
        assert bad == text(FORMAT + b"\n" + manifest + b"\n" + (proof or b""))


def test_both_parts_are_bounded() -> None:
    limits = Limits(manifest_bytes=10, proof_bytes=20)
    assert read_evidence_file(encode_evidence(b"m" * 10, b"p" * 20), limits)
    for manifest, proof in ((b"m" * 11, b"p" * 19), (b"m" * 9, b"p" * 21), (b"m" * 10, b"p" * 21)):
        with pytest.raises(MalformedError):
            read_evidence_file(encode_evidence(manifest, proof), limits)
    bomb = text(FORMAT + b"\n" + bytes(LIMITS.manifest_bytes + LIMITS.proof_bytes + 1) + b"\n")
    assert len(bomb) < 1000
    with pytest.raises(MalformedError, match="not allowed"):
        read_evidence_file(bomb)


def test_evidence_in_a_log_of_a_million_entries_is_under_three_kilobytes() -> None:
    """The goal of the public log, on a release for all eight regions with two feeds, a proof of 20 hashes and 3 cosignatures."""
    draw = random.Random(7)
    hexes = iter(lambda: draw.randbytes(32).hex(), "")
    regions = {
        name: RegionFacts(BundleFacts(next(hexes), 4_863_111, 98_234), (), FileFacts(1_209_000, next(hexes)))
        for name in ("us", "eu", "jp", "kr", "sg", "au", "ch", "row")
    }
    feeds = tuple(FeedFacts(name, next(hexes), 12, 49_000) for name in ("acme-hashes", "acme-indicators"))
    gate = (
        GateCheck("lint", "passed", "98234 records in 24 files"),
        GateCheck("load", "passed", "clamav 98234 records"),
    )
    changes = {"global": {"acme-hashes-daily.hsb": (1200, 17)}}
    whole = BundleFacts(next(hexes), 4_863_111, 98_234)
    manifest = Manifest(
        "coldchain", "stable", 42, next(hexes), "2026-11-24T02:00:00Z", whole, regions, feeds, "0.1.0", changes, gate
    )
    log = MemoryLog(witnesses=("wit.example/one", "wit.example/two", "wit.example/three"))
    log.append(b"one")
    note = log.note()
    proof = OfflineProof(
        987_654,
        tuple(draw.randbytes(32) for _ in range(20)),
        SignedNote(Checkpoint("log.example/test", 1_000_000, draw.randbytes(32)).text, note.signatures),
    ).encode()
    assert len(encode_evidence(manifest.encode(), proof)) < 3000
