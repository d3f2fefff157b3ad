r"""A pack: in one file what a client would have fetched for one update, in the order it would have fetched it.

For the air gap, a customer's own mirror, a memory stick. It carries no trust of its own: every part goes through the same
verification as a fetched file, under the path it is published at; a part that is wrong is as if it had not come. Numbers are
big-endian in the head, varints (:mod:`coldchain.bundle.varint`) inside the frame::

    coldpack          8 bytes: the magic
    01                1 byte: the version
    head length       4 bytes: the length of the frame
    head digest       16 bytes: the beginning of the frame's SHA-256; it finds a damaged copy, and proves nothing
    head              one zstd frame that declares its content's size
    content           the delta or the full bundle as published: compressed already, so never decompressed unverified

The frame holds, one after the other, ``name length, name, length, bytes`` of each small part, and at the end ``name length, name,
length`` of the content, which goes to the end of the file. Names are paths of the published tree, in this order::

    metadata/2.root.json …             the roots after the pinned one, if there are any
    metadata/timestamp.json
    metadata/7.snapshot.json
    metadata/1.targets.json
    metadata/42.us.json                the region's role
    metadata/9.rollout.json
    targets/us/stable/<sha256>.evidence.zst
    log/tile/0/000.p/3 …               tiles for the consistency proof from the source's checkpoint, by level and index
    manifests/<sha256>.json …          of the releases between the source and this one, from the newest down
    attestations/<sha256>/<key id>.dsse.json …   of the rebuilders that the policy asks for, by key id
    targets/us/stable/<sha256>.from-41.ccd               the content; or …full.ccd

Worked example, the beginning of ``fixtures/golden/42.from-41.pack`` (line breaks for the reader)::

    636f6c647061636b 01 00000155 19468c…   coldpack, version 1, a frame of 341 bytes, its digest
    28b52ffd …                             the frame; unpacked it begins with
        14 "metadata/2.root.json" 06 "root 2"            20 characters of name, 6 bytes

Bounds: the sizes of the frame and of what it unpacks to, its window, and the number of parts are checked before memory is taken
(``Limits.pack_parts_bytes``, ``zstd_window_bytes``, ``pack_parts``). The whole order is checked before a part is used, so that a
pack has one spelling of its parts: none twice, none in another place.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import BinaryIO, Final

import zstandard

from coldchain.bundle.frame import unpack_frame
from coldchain.bundle.varint import Reader, put_varint
from coldchain.errors import MalformedError, NewerFormatError
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.tiles import Tile, parse_tile_path

MAGIC: Final = b"coldpack"
VERSION: Final = 1
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
_LOG = "log/"

(
    _ROOT,
    _TIMESTAMP,
    _SNAPSHOT,
    _TARGETS,
    _REGION,
    _ROLLOUT,
    _EVIDENCE,
    _TILE,
    _CHAIN,
    _ATTESTATION,
    _CONTENT,
) = range(11)
_WORDS: dict[int, str] = {
    _TIMESTAMP: "timestamp",
    _SNAPSHOT: "snapshot",
    _TARGETS: "targets",
    _REGION: "region role",
    _ROLLOUT: "rollout",
    _EVIDENCE: "evidence",
    _CONTENT: "delta or full bundle",
}
"""The parts of which there is exactly one."""
_MANY = frozenset({_ROOT, _TILE, _CHAIN, _ATTESTATION})
_NOISE = frozenset({_EVIDENCE, _TILE})
_DAMAGED = "copy it again; if it stays so, have it made again"


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack's head, read and in order, with nothing in it verified.

    Attributes:
        parts: the small parts by path, in their order.
        content: the path of the delta or full bundle.
        start: where it begins in the file.
        length: its length.
        region: which region's files these claim to be.
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
        return {
            parse_tile_path(path.removeprefix(_LOG)): data for path, data in self.parts.items() if path.startswith(_LOG)
        }

    @property
    def chain(self) -> list[bytes]:
        """The manifests of the releases between, from the newest down."""
        return [data for path, data in self.parts.items() if _rank(path) == _CHAIN]

    @property
    def attestations(self) -> dict[str, bytes]:
        """The rebuilders' attestations by file name."""
        return {path.rpartition("/")[2]: data for path, data in self.parts.items() if _rank(path) == _ATTESTATION}


def encode_head(parts: Sequence[tuple[str, bytes]], content: str, length: int, limits: Limits = LIMITS) -> bytes:
    """All of a pack but its content, which follows.

    Args:
        parts: path and bytes of the small parts, in order.
        content: path of the delta or full bundle.
        length: its length.
        limits: bounds that readers set.

    Raises:
        MalformedError: parts that do not make a pack, or more than one may hold.
    """
    _check_order([path for path, _ in parts], content, limits)
    out = bytearray()
    cuts: list[int] = []
    for path, data in parts:
        if (_rank(path) in _NOISE) is (len(cuts) % 2 == 0):
            cuts.append(len(out))
        put_varint(out, len(path))
        out += path.encode()
        put_varint(out, len(data))
        out += data
    put_varint(out, len(content))
    out += content.encode()
    put_varint(out, length)
    if len(out) > limits.pack_parts_bytes:
        raise MalformedError(f"pack: {len(out):,} bytes of small parts, more than {limits.pack_parts_bytes:,}")
    packer = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=len(out))
    frame = b""
    # Tiles and evidence are noise and all else is text: in blocks of their own neither spoils the other's code table.
    for start, end in itertools.pairwise([0, *cuts, len(out)]):
        frame += packer.compress(bytes(out[start:end])) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    frame += packer.flush()
    digest = hashlib.sha256(frame).digest()[:_DIGEST_BYTES]
    return MAGIC + bytes([VERSION]) + len(frame).to_bytes(4, "big") + digest + frame


def is_pack(beginning: bytes) -> bool:
    """Whether a file that begins so is a pack, of whatever version."""
    return beginning.startswith(MAGIC)


def read_pack(file: BinaryIO, size: int, limits: Limits = LIMITS) -> Pack:
    """A pack's head from foreign bytes; the content is not read.

    Args:
        file: at the pack's beginning.
        size: the whole file's length.
        limits: bounds.

    Raises:
        MalformedError: not a pack, or damaged, or of parts that do not make one.
        NewerFormatError: a later version.
    """
    head = file.read(HEAD_BYTES)
    if not is_pack(head):
        raise MalformedError("not a pack: it begins otherwise", todo="give a file made by `coldchain pack`")
    if len(head) < HEAD_BYTES:
        raise MalformedError("pack: it breaks off in its first bytes", todo=_DAMAGED)
    if head[8] != VERSION:
        if head[8] > VERSION:
            raise NewerFormatError(f"pack: version {head[8]}", todo="install a newer client")
        raise MalformedError("pack: version 0")
    length = int.from_bytes(head[9:13], "big")
    if length > min(limits.pack_parts_bytes, size):
        raise MalformedError(f"pack: a head of {length:,} bytes, more than there can be", todo=_DAMAGED)
    frame = file.read(length)
    if hashlib.sha256(frame).digest()[:_DIGEST_BYTES] != head[13:]:
        raise MalformedError("pack: its head is damaged", todo=_DAMAGED)
    parts, content, content_length = _read_parts(
        unpack_frame(frame, limits.pack_parts_bytes, "pack: its head", todo=_DAMAGED, limits=limits), limits
    )
    start = HEAD_BYTES + length
    if content_length != size - start:
        raise MalformedError(f"pack: {size - start:,} bytes of content, {content_length:,} announced", todo=_DAMAGED)
    match = _TARGET.match(content)
    assert match is not None  # the order was checked
    return Pack(MappingProxyType(parts), content, start, content_length, match[1], match[2])


def _read_parts(data: bytes, limits: Limits) -> tuple[dict[str, bytes], str, int]:
    source = Reader(data, "pack")
    parts: list[tuple[str, bytes]] = []
    while True:
        path = _name(source.take(source.varint(NAME_BYTES)))
        length = source.varint()
        if _rank(path) == _CONTENT:
            source.done()
            _check_order([name for name, _ in parts], path, limits)
            return dict(parts), path, length
        if len(parts) >= limits.pack_parts:
            raise MalformedError(f"pack: more than {limits.pack_parts} parts")
        parts.append((path, source.take(length)))


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
    if path.startswith(_LOG) and parse_tile_path(path.removeprefix(_LOG)).level >= 0:
        return _TILE
    raise MalformedError(f"pack: {path[:80]!r} is no part of a pack")


def _check_order(paths: Sequence[str], content: str, limits: Limits) -> None:
    """Every part in its place, the single ones once, all of one region and channel."""
    if len(paths) > limits.pack_parts:
        raise MalformedError(f"pack: more than {limits.pack_parts} parts")
    ranks = [*map(_rank, paths), _rank(content)]
    if ranks != sorted(ranks):
        raise MalformedError("pack: its parts are not in order")
    for rank, word in _WORDS.items():
        if ranks.count(rank) != 1:
            raise MalformedError(f"pack: {ranks.count(rank)} parts of the kind {word!r}, there must be one")
    if len(set(paths)) != len(paths):
        raise MalformedError("pack: a part comes twice")
    roots = [_number(path) for path in paths[: ranks.count(_ROOT)]]
    if roots and roots != list(range(roots[0], roots[0] + len(roots))):
        raise MalformedError("pack: its roots do not follow one another")
    tiles = [parse_tile_path(path.removeprefix(_LOG)) for path in paths if path.startswith(_LOG)]
    places = [(tile.level, tile.index) for tile in tiles]
    if places != sorted(set(places)):
        raise MalformedError("pack: its tiles are not in order")
    attested = [path for path in paths if _rank(path) == _ATTESTATION]
    if attested != sorted(attested) or len({path.split("/")[1] for path in attested}) > 1:
        raise MalformedError("pack: its attestations are not in order, or about several manifests")
    targets = [match for path in (*paths, content) if (match := _TARGET.match(path))]
    folders = {(match[1], match[2]) for match in targets}
    regions = {match[2] for path in paths if (match := _METADATA.match(path)) and _rank(path) == _REGION}
    if len(folders) != 1 or {region for region, _ in folders} != regions:
        raise MalformedError("pack: it mixes regions or channels")


def _number(path: str) -> int:
    match = _METADATA.match(path)
    assert match is not None  # it ranks as a root
    return int(match[1])
