"""The container alone: one spelling, every bound before memory, every part in its place, whatever the parts are worth."""

from __future__ import annotations

import hashlib
import io
import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.bundle.pack import (
    HEAD_BYTES,
    MAGIC,
    Pack,
    encode_head,
    frame_length,
    is_pack,
    parse_head,
    read_pack,
)
from coldchain.bundle.pack_text import COMMON
from coldchain.bundle.varint import put_varint
from coldchain.errors import ColdchainError, MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.tiles import Tile
from tests.client.bundle.golden import GOLDEN

SHA = "c0" * 32
CONTENT = f"targets/us/stable/{SHA}.from-41.ccd"
PARTS = [
    ("metadata/2.root.json", b"root 2"),
    ("metadata/3.root.json", b"root 3"),
    ("metadata/timestamp.json", b"timestamp"),
    ("metadata/7.snapshot.json", b"snapshot"),
    ("metadata/1.targets.json", b"targets"),
    ("metadata/42.us.json", b"region role"),
    ("metadata/9.rollout.json", b"rollout"),
    (f"targets/us/stable/{SHA}.evidence.zst", b"evidence"),
    ("log/tile/0/001.p/3", bytes(range(96))),
    ("log/tile/1/000.p/1", bytes(32)),
    (f"manifests/{SHA}.json", b"manifest 41"),
]
SECOND = [
    *PARTS[:5],
    ("metadata/42.us.json", f'region role of "{SHA}"'.encode()),
    ("metadata/9.rollout.json", f'rollout "{SHA}{SHA}"'.encode()),
    PARTS[7],
    ("log/consistency/41-42", bytes(range(64))),
    *PARTS[8:],
]
OPTIONAL = ("root.json", "log/tile", "manifests/")
WORDS = zstandard.ZstdCompressionDict(COMMON, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def read(data: bytes, limits: Limits = LIMITS) -> Pack:
    return read_pack(io.BytesIO(data), len(data), limits)


def body(parts: list[tuple[str, bytes]], content: str = CONTENT, length: int = 5) -> bytes:
    """The frame's content, in any order and with any names."""
    out = bytearray()
    for path, data in parts:
        put_varint(out, len(path))
        out += path.encode()
        put_varint(out, len(data))
        out += data
    put_varint(out, len(content))
    out += content.encode()
    put_varint(out, length)
    return bytes(out)


def body_2(parts: list[tuple[str, bytes]], content: str = CONTENT, length: int = 5) -> bytes:
    """The same of version 2, every digest spelled out in the text."""
    text, row = bytearray(), bytearray()
    for path, data in parts:
        put_varint(text, len(path))
        text += path.encode()
        put_varint(text, len(data))
        (row if path.startswith("log/") or path.endswith(".zst") else text).extend(data)
    if content:
        put_varint(text, len(content))
        text += content.encode()
        put_varint(text, length)
    out = bytearray()
    put_varint(out, len(text))
    return bytes(out + text + row)


def squeezed(data: bytes) -> bytes:
    """A frame of version 2."""
    return zstandard.ZstdCompressor(dict_data=WORDS).compress(data)


def sealed(frame: bytes, content: bytes = b"delta", version: int = 1) -> bytes:
    """A pack around a frame, its digest right."""
    return (
        MAGIC + bytes([version]) + len(frame).to_bytes(4, "big") + hashlib.sha256(frame).digest()[:16] + frame + content
    )


def packed(parts: list[tuple[str, bytes]], content: str = CONTENT, version: int = 2) -> bytes:
    if version == 1:
        return sealed(zstandard.ZstdCompressor().compress(body(parts, content)))
    return sealed(squeezed(body_2(parts, content)), b"delta", 2)


def published(data: bytes, limits: Limits = LIMITS) -> Pack:
    """Read as a client does that still gets the rest."""
    length = frame_length(data[:HEAD_BYTES], limits)
    return parse_head(data[:HEAD_BYTES], data[HEAD_BYTES : HEAD_BYTES + length], limits, whole=False)


def test_the_golden_packs_are_read_for_ever() -> None:
    second = (GOLDEN / "42.from-41.v2.pack").read_bytes()
    now = read(second)
    assert list(now.parts.items()) == SECOND
    assert second[now.start : now.start + now.length] == (GOLDEN / "42.from-41.ccd").read_bytes()
    assert (now.content, now.source, now.region, now.channel) == (CONTENT, 41, "us", "stable")
    assert now.tiles == {Tile(0, 1, 3): bytes(range(96)), Tile(1, 0, 1): bytes(32)}
    data = (GOLDEN / "42.from-41.pack").read_bytes()
    found = read(data)
    assert list(found.parts.items()) == PARTS
    assert data[found.start : found.start + found.length] == (GOLDEN / "42.from-41.ccd").read_bytes()
    assert (found.content, found.source, found.region, found.channel) == (CONTENT, 41, "us", "stable")
    assert found.roots == ["metadata/2.root.json", "metadata/3.root.json"]
    assert found.tiles == {Tile(0, 1, 3): bytes(range(96)), Tile(1, 0, 1): bytes(32)}
    assert found.chain == [b"manifest 41"]
    assert is_pack(data)


def test_what_is_written_is_read_again() -> None:
    for content, source in ((CONTENT, 41), (CONTENT.replace("from-41", "full"), None)):
        for parts in (PARTS, SECOND):
            found = read(encode_head(parts, content, 5) + b"delta")
            assert (list(found.parts.items()), found.content, found.source) == (parts, content, source)


@given(st.sets(st.integers(0, len(SECOND) - 1)), st.booleans())
def test_a_published_pack_may_lack_any_part(left: set[int], with_content: bool) -> None:
    parts = [one for number, one in enumerate(SECOND) if number not in left]
    content = CONTENT if with_content else ""
    for data in (encode_head(parts, content, 5 * with_content, whole=False), packed(parts, content)):
        found = published(data)
        assert (list(found.parts.items()), found.content) == (parts, content)
        assert found.region in ("us", "")
    if not with_content or any(
        not path.startswith(OPTIONAL) and not path.endswith(OPTIONAL) and "consistency" not in path
        for path, _ in (SECOND[number] for number in left)
    ):
        with pytest.raises(MalformedError, match="there must be one"):
            read(packed(parts, content))


@given(st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([SHA.encode(), b"ab" * 64, b'"sig":"'])), max_size=6))
def test_any_text_comes_out_as_it_went_in(pieces: list[bytes]) -> None:
    text = b"".join(pieces)
    parts = [("metadata/9.rollout.json", text)]
    if b"\x01" in text or b"\x02" in text:
        with pytest.raises(MalformedError):
            encode_head(parts, "", 0, whole=False)
    else:
        assert list(published(encode_head(parts, "", 0, whole=False)).parts.items()) == parts


def test_digests_that_are_promised_must_be_there() -> None:
    data = body_2([("metadata/9.rollout.json", b"\x01\x02")], "")
    for row, good in ((bytes(96), True), (bytes(95), False), (bytes(97), False), (b"", False)):
        frame = sealed(squeezed(data + row), b"", 2)
        if good:
            assert published(frame).parts == {"metadata/9.rollout.json": b"0" * 192}
        else:
            with pytest.raises(MalformedError):
                published(frame)
    limits = replace(LIMITS, pack_parts_bytes=150)
    with pytest.raises(MalformedError, match="more than 150 bytes"):
        published(sealed(squeezed(data + bytes(96)), b"", 2), limits)


def test_every_byte_of_the_head_counts() -> None:
    good = encode_head(PARTS, CONTENT, 5) + b"delta"
    for at in range(len(good) - 5):
        for bit in (1, 0x80):
            with pytest.raises((MalformedError, NewerFormatError)):
                read(good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :])


def test_every_cut_and_every_tail_is_noticed() -> None:
    good = encode_head(PARTS, CONTENT, 5) + b"delta"
    for bad in (*(good[:at] for at in range(len(good))), good + b"x"):
        with pytest.raises(MalformedError):
            read(bad)


def test_every_part_has_one_place_and_comes_once() -> None:
    for index, (path, _) in enumerate(PARTS):
        missing = PARTS[:index] + PARTS[index + 1 :]
        for version in (1, 2):
            if path.startswith(OPTIONAL) or path.endswith(OPTIONAL):
                read(packed(missing, version=version))
            else:
                with pytest.raises(MalformedError, match="there must be one"):
                    read(packed(missing, version=version))
            for reader in (read, published):
                with pytest.raises(MalformedError):
                    reader(packed([*PARTS[: index + 1], *PARTS[index:]], version=version))
    for one, two in itertools.combinations(range(len(PARTS)), 2):
        other = list(PARTS)
        other[one], other[two] = other[two], other[one]
        for version, reader in itertools.product((1, 2), (read, published)):
            with pytest.raises(MalformedError):
                reader(packed(other, version=version))
        with pytest.raises(MalformedError):
            encode_head(other, CONTENT, 5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metadata/3.root.json", "metadata/4.root.json"),
        ("metadata/42.us.json", "metadata/42.jp.json"),
        ("metadata/42.us.json", "metadata/042.us.json"),
        (f"targets/us/stable/{SHA}.evidence.zst", f"targets/jp/stable/{SHA}.evidence.zst"),
        (f"targets/us/stable/{SHA}.evidence.zst", f"targets/us/early/{SHA}.evidence.zst"),
        ("log/tile/0/001.p/3", "log/tile/entries/001.p/3"),
        ("log/tile/0/001.p/3", "log/checkpoint"),
        ("log/consistency/41-42", "log/consistency/42-42"),
        ("log/consistency/41-42", "log/consistency/041-42"),
        ("log/consistency/41-42", "log/consistency/41-42/"),
        ("log/tile/1/000.p/1", "log/tile/0/001.p/2"),
        (f"manifests/{SHA}.json", "manifests/../root.json"),
        (f"manifests/{SHA}.json", f"/manifests/{SHA}.json"),
        (f"manifests/{SHA}.json", f"manifests/{SHA.upper()}.json"),
        (f"manifests/{SHA}.json", f"manifests/{SHA}.json\n"),
    ],
)
def test_only_paths_that_a_client_would_ask_for(old: str, new: str) -> None:
    for version, reader in itertools.product((1, 2), (read, published)):
        with pytest.raises(MalformedError):
            reader(packed([(new if path == old else path, data) for path, data in SECOND], version=version))
    for content in (f"targets/jp/stable/{SHA}.full.ccd", f"targets/us/stable/{SHA}.from-0.ccd", "x"):
        with pytest.raises(MalformedError):
            read(packed(PARTS, content))


def test_a_later_version_is_newer_and_none_is_not() -> None:
    first, second = zstandard.ZstdCompressor().compress(body(PARTS)), squeezed(body_2(PARTS))
    for frame in (first, second):
        with pytest.raises(NewerFormatError):
            read(sealed(frame, version=3))
        with pytest.raises(MalformedError):
            read(sealed(frame, version=0))
    for frame, other in ((first, 2), (second, 1)):
        with pytest.raises(MalformedError):
            read(sealed(frame, version=other))
    assert read(sealed(first, version=1)) == replace(read(sealed(second, version=2)), start=HEAD_BYTES + len(first))


def test_what_a_frame_declares_is_checked_before_it_is_unpacked() -> None:
    data = body(PARTS)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(data)
    good = zstandard.ZstdCompressor().compress(data)
    long = zstandard.ZstdCompressor().compress(body([(path, part + bytes(4096)) for path, part in PARTS]))
    read(sealed(long))
    for frame, limits in (
        (unsized, LIMITS),
        (long, replace(LIMITS, zstd_window_bytes=1 << 11)),
        (good, replace(LIMITS, pack_parts_bytes=len(data) - 1)),
        (good, replace(LIMITS, pack_parts=len(PARTS) - 1)),
        (good + good, LIMITS),
        (good + b"\0", LIMITS),
        (b"", LIMITS),
        (zstandard.ZstdCompressor().compress(data + b"\0"), LIMITS),
    ):
        with pytest.raises(MalformedError):
            read(sealed(frame), limits)
    read(sealed(good))


BOMB = """
import io, resource, sys
from coldchain.bundle.pack import read_pack
from coldchain.errors import MalformedError
data = sys.stdin.buffer.read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_pack(io.BytesIO(data), len(data))
except MalformedError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("unpacked", [1 << 30, LIMITS.pack_parts_bytes + 1])
def test_a_bomb_takes_no_memory(unpacked: int) -> None:
    """Zeros, declared honestly, and declared as few: kilobytes that would become a gigabyte."""
    packer = zstandard.ZstdCompressor(level=1).compressobj(size=unpacked)
    pieces, left = [], unpacked
    while left:
        pieces.append(packer.compress(bytes(min(left, 1 << 20))))
        left -= min(left, 1 << 20)
    honest = b"".join(pieces) + packer.flush()
    size_field = zstandard.frame_header_size(honest) - 4
    lying = honest[:size_field] + (1 << 20).to_bytes(4, "little") + honest[size_field + 4 :]
    assert zstandard.get_frame_parameters(lying).content_size == 1 << 20
    for frame in (honest, lying):
        done = subprocess.run([sys.executable, "-c", BOMB], input=sealed(frame), capture_output=True, check=True)
        assert int(done.stdout) < 12 * 1024, "KiB more than before"


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_good_order(data: bytes) -> None:
    whole = [data, MAGIC + data, sealed(data), sealed(zstandard.ZstdCompressor().compress(data))]
    for bad in (*whole, sealed(data, b"", 2), sealed(squeezed(data), b"", 2)):
        with pytest.raises(ColdchainError):
            read(bad)
        if len(data) > 1:  # nothing at all is a pack that leaves everything out
            with pytest.raises(ColdchainError):
                published(bad)
    assert len(sealed(b"", b"")) == HEAD_BYTES


def test_a_pack_is_known_by_its_first_bytes() -> None:
    assert is_pack(MAGIC)
    assert not is_pack(b"")
    assert not is_pack(MAGIC[:-1])
