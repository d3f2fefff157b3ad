r"""A pack: in one file what a client would have fetched for one update, in the order it would have fetched it.

It carries no trust of its own: every part goes through the same verification as a fetched file, under the path it is published at; a
part that is wrong is as if it had not come. There are two kinds of one format. A *whole* pack holds everything, for the air gap, a
customer's own mirror, a memory stick (:mod:`coldchain.agent.make_pack`). A *published* one leaves out what the endpoints that it is for
have already (:mod:`coldchain.published_packs`). Numbers are big-endian in the head, and varints (:mod:`coldchain.bundle.varint`) in the
frame::

    coldpack          8 bytes: the magic
    02                1 byte: the version
    head length       4 bytes: the length of the frame
    head digest       16 bytes: the beginning of the frame's SHA-256; it finds a damaged copy, and proves nothing
    head              one zstd frame that declares its content's size
    content           the delta or the full bundle as published: compressed already, so never decompressed unverified

The frame is packed with the words of :data:`coldchain.bundle.pack_text.COMMON` before it, as a raw dictionary. It holds the length of
its text, the text, and a row of raw bytes. The text is, one after the other, ``name length, name, length, bytes`` of each small part.
The digests in names, and in parts that are text, stand in the row instead (:mod:`coldchain.bundle.pack_text`); of a part that is not,
all bytes stand in the row and only the length in the text. At the end, if the pack has content, ``name length, name, length`` of it;
the content itself goes to the end of the file. Names are paths of the published tree, in this order::

    metadata/2.root.json …             the roots after the pinned one, if there are any
    metadata/timestamp.json
    metadata/7.snapshot.json
    metadata/1.targets.json
    metadata/42.us.json                the region's role
    metadata/9.rollout.json
    targets/us/stable/<sha256>.evidence.zst                  (in the row)
    log/consistency/41-42              the proof that a log of 41 entries became one of 42: hashes of 32 bytes (in the row)
    log/tile/0/000.p/3 …               tiles for that proof from any checkpoint, by level and index (in the row)
    manifests/<sha256>.json …          of the releases between the source and this one, from the newest down
    attestations/<sha256>/<key id>.dsse.json …   of the rebuilders that the policy asks for, by key id
    targets/us/stable/<sha256>.from-41.ccd               the content; or …full.ccd

In a whole pack there is one of each that stands here without dots, but for the proof. In a published one any may be missing.

Worked example, the beginning of ``fixtures/golden/42.from-41.v2.pack`` (line breaks for the reader)::

    636f6c647061636b 02 0000011a c3cc87…   coldpack, version 2, a frame of 282 bytes, its digest
    28b52ffd …                             the frame; unpacked it begins with
        8703                                   the length of the text, 391 bytes
        14 "metadata/2.root.json" 06 "root 2"            20 characters of name, 6 bytes

In version 1 (``fixtures/golden/42.from-41.pack``) the frame had no dictionary, every part's bytes stood where they are named, digests
were text, and every pack was a whole one.

Bounds: the sizes of the frame and of what it unpacks to, its window, and the number of parts are checked before memory is taken
(``Limits.pack_parts_bytes``, ``zstd_window_bytes``, ``pack_parts``). The whole order is checked before a part is used, so that a
pack has one spelling of its parts: none twice, none in another place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final

import zstandard

from coldchain.bundle.frame import unpack_frame
from coldchain.bundle.pack_text import COMMON, put_digests, take_digests
from coldchain.bundle.varint import Reader, put_varint
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.tiles import Tile, parse_tile_path

MAGIC: Final = b"coldpack"
VERSION: Final = 2
HEAD_BYTES: Final = 29
NAME_BYTES: Final = 512
TIMESTAMP: Final = "metadata/timestamp.json"

_DIGEST_BYTES = 16
_LEVEL = 19
_METADATA = re.compile(r"metadata/([1-9][0-9]{0,8})\.([A-Za-z0-9_-]{1,64})\.json\Z")
_TARGET = re.compile(
    r"targets/([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)/([0-9a-f]{64})\.(evidence\.zst|full\.ccd|from-[1-9][0-9]{0,14}\.ccd)\Z"
)
_MANIFEST = re.compile(r"manifests/[0-9a-f]{64}\.json\Z")
_ATTESTED = re.compile(r"attestations/[0-9a-f]{64}/[0-9a-f]{64}\.dsse\.json\Z")
_CONSISTENCY = re.compile(r"log/consistency/(0|[1-9][0-9]{0,18})-([1-9][0-9]{0,18})\Z")
_LOG = "log/tile/"

(
    _ROOT,
    _TIMESTAMP,
    _SNAPSHOT,
    _TARGETS,
    _REGION,
    _ROLLOUT,
    _EVIDENCE,
    _PROOF,
    _TILE,
    _CHAIN,
    _ATTESTATION,
    _CONTENT,
) = range(12)
_WORDS: dict[int, str] = {
    _TIMESTAMP: "timestamp",
    _SNAPSHOT: "snapshot",
    _TARGETS: "targets",
    _REGION: "region role",
    _ROLLOUT: "rollout",
    _EVIDENCE: "evidence",
    _PROOF: "proof of consistency",
    _CONTENT: "delta or full bundle",
}
"""The parts of which there is one at most."""
_IN_EVERY_WHOLE = _WORDS.keys() - {_PROOF}
_NOISE = frozenset({_EVIDENCE, _PROOF, _TILE})
_WORD_LIST = zstandard.ZstdCompressionDict(COMMON, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
_DAMAGED = "copy it again; if it stays so, have it made again"


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack's head, read and in order, with nothing in it verified.

    Attributes:
        parts: the small parts by path, in their order.
        content: the path of the delta or full bundle; empty when there is none.
        start: where it begins in the file.
        length: its length.
        region: which region's files these claim to be; empty when none says.
        channel: which channel's.
    """

    parts: Mapping[str, bytes]
    content: str
    start: int
    length: int
    region: str
    channel: str

    @property
    def source(self) -> int | None:
        """The release that the delta starts from, by its name; None for a full bundle."""
        name = self.content.rpartition("/")[2].split(".")[1]
        return int(name.removeprefix("from-")) if name != "full" else None

    @property
    def roots(self) -> list[str]:
        """The paths of the roots."""
        return [path for path in self.parts if _rank(path) == _ROOT]

    @property
    def tiles(self) -> dict[Tile, bytes]:
        """The log's tiles."""
        return {_tile(path): data for path, data in self.parts.items() if path.startswith(_LOG)}

    @property
    def chain(self) -> list[bytes]:
        """The manifests of the releases between, from the newest down."""
        return [data for path, data in self.parts.items() if _rank(path) == _CHAIN]

    @property
    def attestations(self) -> dict[str, bytes]:
        """The rebuilders' attestations by file name."""
        return {path.rpartition("/")[2]: data for path, data in self.parts.items() if _rank(path) == _ATTESTATION}


def consistency_path(old: int, new: int) -> str:
    """The name of the proof that a log of ``old`` entries became one of ``new``."""
    return f"log/consistency/{old}-{new}"


def encode_head(
    parts: Sequence[tuple[str, bytes]], content: str, length: int, limits: Limits = LIMITS, *, whole: bool = True
) -> bytes:
    """All of a pack but its content, which follows.

    Args:
        parts: path and bytes of the small parts, in order.
        content: path of the delta or full bundle; empty for none.
        length: its length.
        limits: bounds that readers set.
        whole: whether nothing may be missing.

    Raises:
        MalformedError: parts that do not make a pack, or more than one may hold.
    """
    _check_order([path for path, _ in parts], content, limits, whole)
    text, row = bytearray(), bytearray()

    def put_text(data: bytes) -> None:
        taken = take_digests(data, row)
        put_varint(text, len(taken))
        text.extend(taken)

    for path, data in parts:
        put_text(path.encode())
        if _rank(path) in _NOISE:
            put_varint(text, len(data))
            row += data
        else:
            put_text(data)
    if content:
        put_text(content.encode())
        put_varint(text, length)
    out = bytearray()
    put_varint(out, len(text))
    out += text
    if max(len(out) + len(row), sum(len(data) for _, data in parts)) > limits.pack_parts_bytes:
        raise MalformedError(f"pack: more than {limits.pack_parts_bytes:,} bytes of small parts")
    packer = zstandard.ZstdCompressor(level=_LEVEL, dict_data=_WORD_LIST).compressobj(size=len(out) + len(row))
    # The row is noise: in a block of its own it does not spoil the text's code table.
    frame = packer.compress(bytes(out)) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    frame += packer.compress(bytes(row)) + packer.flush()
    digest = hashlib.sha256(frame).digest()[:_DIGEST_BYTES]
    return MAGIC + bytes([VERSION]) + len(frame).to_bytes(4, "big") + digest + frame


def is_pack(beginning: bytes) -> bool:
    """Whether a file that begins so is a pack, of whatever version."""
    return beginning.startswith(MAGIC)


def frame_length(beginning: bytes, limits: Limits = LIMITS) -> int:
    """How many bytes follow the first :data:`HEAD_BYTES` until the head is whole.

    Raises:
        MalformedError: not a pack, or damaged.
        NewerFormatError: a later version.
    """
    if not is_pack(beginning):
        raise MalformedError("not a pack: it begins otherwise", todo="give a file made by `coldchain pack`")
    if len(beginning) < HEAD_BYTES:
        raise MalformedError("pack: it breaks off in its first bytes", todo=_DAMAGED)
    if beginning[8] > VERSION:
        raise NewerFormatError(f"pack: version {beginning[8]}", todo="install a newer client")
    if not beginning[8]:
        raise MalformedError("pack: version 0")
    length = int.from_bytes(beginning[9:13], "big")
    if length > limits.pack_parts_bytes:
        raise MalformedError(f"pack: a head of {length:,} bytes, more than there can be", todo=_DAMAGED)
    return length


def parse_head(beginning: bytes, frame: bytes, limits: Limits = LIMITS, *, whole: bool = True) -> Pack:
    """A pack's head; nothing is known of the content but what the head says.

    Args:
        beginning: its first :data:`HEAD_BYTES` bytes.
        frame: the :func:`frame_length` bytes after them.
        limits: bounds.
        whole: whether nothing may be missing.

    Raises:
        MalformedError: not a pack, or damaged, or of parts that do not make one.
        NewerFormatError: a later version.
    """
    if (
        frame_length(beginning, limits) != len(frame)
        or hashlib.sha256(frame).digest()[:_DIGEST_BYTES] != beginning[13:]
    ):
        raise MalformedError("pack: its head is damaged", todo=_DAMAGED)
    words = _WORD_LIST if beginning[8] > 1 else None
    data = unpack_frame(frame, limits.pack_parts_bytes, "pack: its head", todo=_DAMAGED, limits=limits, words=words)
    parts, content, length = (_read_parts if words else _read_first_parts)(data, limits)
    _check_order(list(parts), content, limits, whole)
    match = next((found for path in (content, *parts) if (found := _TARGET.match(path))), None)
    region, channel = (match[1], match[2]) if match else ("", "")
    return Pack(MappingProxyType(parts), content, HEAD_BYTES + len(frame), length, region, channel)


def read_pack(file: BinaryIO, size: int, limits: Limits = LIMITS) -> Pack:
    """The head of a whole pack from foreign bytes; the content is not read.

    Args:
        file: at the pack's beginning.
        size: the whole file's length.
        limits: bounds.

    Raises:
        MalformedError: not a whole pack, or damaged.
        NewerFormatError: a later version.
    """
    beginning = file.read(HEAD_BYTES)
    length = frame_length(beginning, limits)
    if length > size:
        raise MalformedError(f"pack: a head of {length:,} bytes, more than there can be", todo=_DAMAGED)
    pack = parse_head(beginning, file.read(length), limits)
    if pack.length != size - pack.start:
        raise MalformedError(f"pack: {size - pack.start:,} bytes of content, {pack.length:,} announced", todo=_DAMAGED)
    return pack


def _read_parts(data: bytes, limits: Limits) -> tuple[dict[str, bytes], str, int]:
    source = Reader(data, "pack")
    text = Reader(source.take(source.varint()), "pack")
    row = Reader(source.rest(), "pack")
    parts: dict[str, bytes] = {}
    content, length, room = "", 0, limits.pack_parts_bytes
    while text.position < len(text.data):
        path = _name(put_digests(text.take(text.varint(NAME_BYTES)), row))
        rank = _rank(path)
        if rank == _CONTENT:
            content, length = path, text.varint()
            break
        size = text.varint()
        part = row.take(size) if rank in _NOISE else put_digests(text.take(size), row)
        room -= len(part)
        if room < 0:
            raise MalformedError(f"pack: more than {limits.pack_parts_bytes:,} bytes of small parts")
        _add(parts, path, part, limits)
    text.done()
    row.done()
    return parts, content, length


def _read_first_parts(data: bytes, limits: Limits) -> tuple[dict[str, bytes], str, int]:
    """The same of a frame of version 1."""
    source = Reader(data, "pack")
    parts: dict[str, bytes] = {}
    while True:
        path = _name(source.take(source.varint(NAME_BYTES)))
        length = source.varint()
        if _rank(path) == _CONTENT:
            source.done()
            return parts, path, length
        _add(parts, path, source.take(length), limits)


def _add(parts: dict[str, bytes], path: str, data: bytes, limits: Limits) -> None:
    if path in parts:
        raise MalformedError("pack: a part comes twice")
    if len(parts) >= limits.pack_parts:
        raise MalformedError(f"pack: more than {limits.pack_parts} parts")
    parts[path] = data


def _name(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedError("pack: a name that is not ASCII") from error


def _rank(path: str) -> int:
    """Which part this is, by its path.

    Raises:
        MalformedError: none that a pack holds.
    """
    if path == TIMESTAMP:
        return _TIMESTAMP
    if match := _METADATA.match(path):
        special = {"root": _ROOT, "snapshot": _SNAPSHOT, "targets": _TARGETS, "rollout": _ROLLOUT}
        return special.get(match[2], _REGION)
    if match := _TARGET.match(path):
        return _EVIDENCE if match[4] == "evidence.zst" else _CONTENT
    if _MANIFEST.match(path):
        return _CHAIN
    if _ATTESTED.match(path):
        return _ATTESTATION
    if path.startswith(_LOG) and _tile(path).level >= 0:
        return _TILE
    if (match := _CONSISTENCY.match(path)) and int(match[1]) < int(match[2]):
        return _PROOF
    raise MalformedError(f"pack: {path[:80]!r} is no part of a pack")


def _tile(path: str) -> Tile:
    return parse_tile_path(path.removeprefix("log/"))


def _check_order(paths: Sequence[str], content: str, limits: Limits, whole: bool) -> None:
    """Every part in its place, the single ones once, all of one region and channel."""
    if len(paths) > limits.pack_parts:
        raise MalformedError(f"pack: more than {limits.pack_parts} parts")
    ranks = [*map(_rank, paths), *([_rank(content)] if content else [])]
    if ranks != sorted(ranks):
        raise MalformedError("pack: its parts are not in order")
    for rank, word in _WORDS.items():
        if ranks.count(rank) > 1 or (whole and rank in _IN_EVERY_WHOLE and not ranks.count(rank)):
            raise MalformedError(f"pack: {ranks.count(rank)} parts of the kind {word!r}, there must be one")
    if content and ranks[-1] != _CONTENT:
        raise MalformedError("pack: its content is a small part")
    if len(set(paths)) != len(paths):
        raise MalformedError("pack: a part comes twice")
    roots = [_number(path) for path in paths[: ranks.count(_ROOT)]]
    if roots and roots != list(range(roots[0], roots[0] + len(roots))):
        raise MalformedError("pack: its roots do not follow one another")
    tiles = [_tile(path) for path in paths if path.startswith(_LOG)]
    places = [(tile.level, tile.index) for tile in tiles]
    if places != sorted(set(places)):
        raise MalformedError("pack: its tiles are not in order")
    attested = [path for path in paths if _rank(path) == _ATTESTATION]
    if attested != sorted(attested) or len({path.split("/")[1] for path in attested}) > 1:
        raise MalformedError("pack: its attestations are not in order, or about several manifests")
    targets = [match for path in (*paths, content) if (match := _TARGET.match(path))]
    folders = {(match[1], match[2]) for match in targets}
    regions = {match[2] for path in paths if (match := _METADATA.match(path)) and _rank(path) == _REGION}
    if len(folders) > 1 or len(regions | {region for region, _ in folders}) > 1:
        raise MalformedError("pack: it mixes regions or channels")


def _number(path: str) -> int:
    match = _METADATA.match(path)
    assert match is not None  # it ranks as a root
    return int(match[1])
