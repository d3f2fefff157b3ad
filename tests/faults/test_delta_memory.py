"""Memory of applying: flat whatever the bundle's size, and small for whatever is forged (faults.md, row 7).

Measured in a process of its own, as the peak of its address space above that of a bare interpreter, so that what zstd, LZMA and
bzip2 take counts too.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import random
from pathlib import Path

import pytest
import zstandard

from coldchain.bundle.columns import BZ2, LZMA, PLAIN, ZSTD, lzma_filters, raw_dictionary
from coldchain.bundle.delta import MAGIC
from coldchain.bundle.varint import encode_varints
from coldchain.limits import LIMITS
from coldchain_server.deltas import blocks, encode, pack
from coldchain_server.deltas.pack import plain_column
from tests.client.bundle import bundles
from tests.client.bundle.bundles import Store, describe
from tests.client.bundle.forged import Parts
from tests.faults.delta_memory import apply_apart

MIB = 1 << 20
BLOCK = LIMITS.delta_block_bytes


def hash_lines(count: int) -> list[bytes]:
    rng = random.Random(count)
    return [
        b"%s:%d:Win.Trojan.Agent-%d-0"
        % (hashlib.sha256(rng.randbytes(8)).hexdigest().encode(), rng.randrange(10**6), 7_000_000 + i)
        for i in range(count)
    ]


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def quickly(data: bytes, reference: bytes) -> list[tuple[int, bytes]]:
    """Instead of every coder at its slowest: the reader has the same work, and its memory is what counts here."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1, window_log=22, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=raw_dictionary(reference))
    return [(ZSTD, compressor.compress(data))]


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [30_000, 300_000])
def test_applying_stays_flat(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The full bundle, a day's delta, and as many new records before the last line of a section of one."""
    if count > 30_000:
        monkeypatch.setattr(pack, "_candidates", quickly)
        monkeypatch.setattr(
            encode, "encode_block", lambda parts, references, _: next(blocks._hashes(parts, references))
        )
    store = Store()
    lines = hash_lines(count)
    tiny, whole = describe({"m.hsb": [b"~"]}, store, 1), describe({"m.hsb": [*lines, b"~"]}, store, 2)
    after = describe({"m.hsb": [*lines[50:], *hash_lines(2000), b"~"]}, store, 3)
    for what, old, new in (("full", None, whole), ("all before the last", tiny, whole), ("a day", whole, after)):
        data, _ = bundles.encode(old, new, store)
        done = apply_apart(data, old, new.digest, store, tmp_path / what)
        assert done.error is None
        assert contents(done.new) == {section.name: section.sha256 for section in new.sections}
        with capsys.disabled():
            print(
                f"\n{count} records, {what}: {len(data)} bytes, {done.above_bare / MIB:.1f} MiB above a bare interpreter"
            )
        assert done.above_bare < 40 * MIB


# -- bombs -----------------------------------------------------------------------------------------------------------


def framed(coder: int, length: int, packed: bytes) -> bytes:
    return encode_varints([length << 2 | coder] + ([] if coder == PLAIN else [len(packed)])) + packed


def zeros(total: int, window: int = 0x68, byte: bytes = b"\0") -> bytes:
    """A magicless frame of ``total`` equal bytes: four bytes stand for 128 KiB. Window 8 MiB, or another descriptor."""
    block = (131_072 << 3 | 1 << 1).to_bytes(3, "little") + byte
    rest = (total % 131_072 << 3 | 1 << 1 | 1).to_bytes(3, "little") + byte
    return bytes([0, window]) + block * (total // 131_072) + rest


def packed_zeros(length: int, byte: bytes = b"\0") -> bytes:
    """A column of equal bytes, quickly made."""
    return framed(ZSTD, length, zeros(length, byte=byte))


def declared(total: int) -> bytes:
    """A frame that declares its size; what it holds does not matter."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(total))


def full(count: int, body: bytes) -> bytes:
    """A full bundle of one set, whose only block has this body."""
    return Parts(b"\1\2ex\2us\6stable\x2a\3\4\0\1l" + encode_varints([count]) + b"\0", blocks=((count, body),)).encode(
        None
    )


def full_file(body: bytes) -> bytes:
    return Parts(b"\1\2ex\2us\6stable\x2a\3\5\0\0", groups=(body,)).encode(None)


def one_hash(names: bytes, firsts: bytes = b"\0", more: bytes = b"\0") -> bytes:
    return full(1, b"\1\0\x10\2\0\0" + plain_column(bytes(12)) + names + b"\0\0" + firsts + more + b"\0" * 4)


BOMB = zeros(1 << 30)
BOMBS = {
    "1 GiB as a short text": full(1, b"\0\0" + framed(ZSTD, 1000, BOMB)),
    "1 GiB as the longest text": full(1, b"\0\0" + framed(ZSTD, BLOCK, BOMB)),
    "1 GiB as the header": MAGIC + framed(ZSTD, BLOCK, BOMB),
    "1 GiB as a header longer than allowed": MAGIC + framed(ZSTD, LIMITS.description_bytes, BOMB),
    "1 GiB as files": full_file(b"\0\1" + encode_varints([BLOCK << 2]) + framed(ZSTD, BLOCK, BOMB)),
    "200 MB, and says so": full(1, b"\0\0" + framed(ZSTD, BLOCK, declared(200_000_000))),
    "a window of 128 MiB": full(1, b"\0\0" + framed(ZSTD, BLOCK, zeros(9 * MIB, window=0x88))),
    "a frame behind the frame": full(1, b"\0\0" + framed(ZSTD, BLOCK, zeros(BLOCK) + BOMB)),
    "64 MiB of LZMA": full(
        1, b"\0\0" + framed(LZMA, BLOCK, lzma.compress(bytes(64 * MIB), lzma.FORMAT_RAW, filters=lzma_filters(BLOCK)))
    ),
    "64 MiB of bzip2": full(1, b"\0\0" + framed(BZ2, BLOCK, bz2.compress(bytes(64 * MIB)))),
    "a text of line ends": full(1, b"\0\0" + packed_zeros(BLOCK, b"\n")),
    "names of line ends": one_hash(packed_zeros(BLOCK, b"\n")),
    "names of numbers": one_hash(packed_zeros(BLOCK, b"\1"), plain_column(b"\0"), packed_zeros(BLOCK)),
    "tails of line ends": full(1, b"\2\4\2\0\0" + packed_zeros(BLOCK, b"\n") + plain_column(b"\0")),
    "names that grow": Parts(
        b"\1\2ex\2us\6stable\x2a"
        + b"".join(b"\3\4" + encode_varints([128 * i, 128]) + b"a" * 128 + b"\1" for i in range(3000))
        + b"\0"
    ).encode(None, lambda body, _: plain_column(body)),
    "counts of every sort": full(65_536, b"\1\4\x20" + encode_varints([65_536 * 16]) + bytes(100)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_in_little_memory(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = BOMBS[name]
    done = apply_apart(data, None, "0" * 64, Store(), tmp_path)
    with capsys.disabled():
        print(f"\n{name}: {len(data)} bytes, {done.above_loaded / MIB:.1f} MiB")
    assert done.error == "MalformedError"
    assert done.above_loaded < 16 * MIB
    assert all(not path.stat().st_size for path in done.new.iterdir())


def test_a_bomb_is_one() -> None:
    """What the others are refused for would otherwise come out."""
    assert len(BOMB) < 33_000
    reader = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS).stream_reader(BOMB)
    total = 0
    while piece := reader.read(MIB):
        total += len(piece)
    assert total == 1 << 30
