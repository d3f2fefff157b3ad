"""Archives: what is inside comes out, and nothing else does, within bounds."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import stat
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from coldchain.errors import LintError
from coldchain_server.feeds.archives import FEED_LIMITS, FeedLimits, SourceFile, checked_path, is_archive, unpack

FILES = {"a.hdb": b"one\n", "sub/b.ndb": b"two\n" * 100, "c d-é.ldb": b""}
SMALL = replace(FEED_LIMITS, ratio_free=1 << 20)
Member = tuple[str, bytes] | tarfile.TarInfo


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


def tarred(*members: Member, format_: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(bytes(member.size)))
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def cvd(body: bytes, *, magic: bytes = b"ClamAV-VDB:", md5: str = "") -> bytes:
    md5 = md5 or hashlib.md5(body).hexdigest()
    return (magic + f"07 Jun 2024 10-30 -0400:6:2:90:{md5}:X:tester:1717770600".encode()).ljust(512) + body


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".tar": lambda data: data,
    ".tar.gz": gzip.compress,
    ".tgz": gzip.compress,
    ".tar.bz2": bz2.compress,
    ".tar.xz": lzma.compress,
    ".tar.zst": lambda data: zstandard.ZstdCompressor().compress(data),
    ".cvd": lambda data: cvd(gzip.compress(data)),
    ".cud": lambda data: cvd(data),
    ".cld": lambda data: cvd(data),
}


def members(name: str, data: bytes, limits: FeedLimits = SMALL) -> dict[str, bytes]:
    return {one.path: one.data for one in unpack(name, io.BytesIO(data), limits)}


def refused(name: str, data: bytes, limits: FeedLimits = SMALL) -> str:
    with pytest.raises(LintError) as caught:
        members(name, data, limits)
    return str(caught.value)


def every_kind(*files: tuple[str, bytes]) -> list[tuple[str, bytes]]:
    return [("a.zip", zipped(*files)), *((f"a{end}", pack(tarred(*files))) for end, pack in PACKERS.items())]


def test_what_is_inside_comes_out() -> None:
    for name, data in every_kind(*FILES.items()):
        assert is_archive(name)
        assert is_archive(name.upper())
        assert members(name, data) == FILES
        assert members(name.upper(), data) == FILES
    assert not is_archive("a.hdb")
    assert not is_archive("zip")


def test_names_that_leave_hide_or_confuse_are_refused() -> None:
    names = [
        "/etc/passwd",
        "../a.hdb",
        "a/../../b.hdb",
        "a\\..\\b.hdb",
        "C:/a.hdb",
        "C:a.hdb",
        "a\nb.hdb",
        "a\x1b[2Jb.hdb",
        "..",
        "x" * 600,
    ]
    for name in names:
        for archive, data in every_kind((name, b"x\n")):
            if not (archive == "a.zip" and name in ("a\\..\\b.hdb",)):
                assert "plain path" in refused(archive, data) or "broken" in refused(archive, data), (archive, name)
        with pytest.raises(LintError):
            checked_path("a", name)
    assert checked_path("a", "./b//c.hdb") == "b/c.hdb"


def test_hidden_names_are_no_part_of_a_feed() -> None:
    for archive, data in every_kind((".git/config.hdb", b"x\n"), ("a/.b.hdb", b"x\n"), ("a.hdb", b"y\n")):
        assert members(archive, data) == {"a.hdb": b"y\n"}


def test_links_and_devices_are_refused() -> None:
    for kind in (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
    ):
        info = tarfile.TarInfo("a.hdb")
        info.type, info.linkname = kind, "/etc/passwd"
        for end, pack in PACKERS.items():
            if kind != tarfile.CONTTYPE:  # a regular file by another number
                assert "plain file" in refused(f"a{end}", pack(tarred(info)))
    for mode in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK):
        one = zipfile.ZipInfo("a.hdb")
        one.external_attr = (mode | 0o644) << 16
        assert "plain file" in refused("a.zip", zipped((one, b"/etc/passwd")))
    directory = tarfile.TarInfo("sub")
    directory.type = tarfile.DIRTYPE
    assert members("a.tar", tarred(directory, ("sub/a.hdb", b"x"))) == {"sub/a.hdb": b"x"}
    assert members("a.zip", zipped(("sub/", b""), ("sub/a.hdb", b"x"))) == {"sub/a.hdb": b"x"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused() -> None:
    for first, second in (("a.hdb", "a.hdb"), ("a/b.hdb", "a//b.hdb"), ("a/b.hdb", "./a/b.hdb")):
        for archive, data in every_kind((first, b"1"), (second, b"2")):
            assert "twice" in refused(archive, data)


def test_too_many_and_too_large_are_refused() -> None:
    files = [(f"{number}.hdb", b"x" * 100) for number in range(20)]
    for archive, data in every_kind(*files):
        assert "more files" in refused(archive, data, replace(SMALL, files=19))
        assert "larger" in refused(archive, data, replace(SMALL, file_bytes=99))
        assert "more bytes" in refused(archive, data, replace(SMALL, total_bytes=1500))
        assert len(members(archive, data, replace(SMALL, files=20, file_bytes=1 << 16))) == 20


def test_bombs_are_refused_before_they_take_memory() -> None:
    zeros = bytes(64 << 20)
    cases = {"a.zip": zipped(("a.hdb", zeros)), "a.tar.gz": gzip.compress(tarred(("a.hdb", zeros)))}
    pax = tarfile.TarInfo("a.hdb")
    pax.pax_headers = {"comment": "x" * (32 << 20)}
    cases["pax.tar.gz"] = gzip.compress(tarred(pax))
    cases["a.tar.zst"] = PACKERS[".tar.zst"](tarred(("a.hdb", zeros)))
    del zeros
    for name, data in cases.items():
        assert len(data) < 1 << 20
        tracemalloc.start()
        assert "more bytes" in refused(name, data, replace(SMALL, ratio=20)), name
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 16 << 20, (name, peak)


def test_sparse_members_are_refused() -> None:
    info = tarfile.TarInfo("a.hdb")
    info.type = tarfile.GNUTYPE_SPARSE
    assert refused("a.tar", tarred(info, format_=tarfile.GNU_FORMAT))


def test_every_truncation_is_refused() -> None:
    for archive, data in every_kind(("a.hdb", b"44d88612fea8a8f36de82e1278abb02f:68:A\n"), ("b.hdb", b"x" * 700)):
        step = max(1, len(data) // 60)
        for end in {*range(0, len(data), step), *range(max(0, len(data) - 30), len(data))}:
            if (
                archive == "a.tar"
                and len(data) - end < tarfile.RECORDSIZE - 4 * tarfile.BLOCKSIZE
                and not any(data[end - 512 : end])
            ):
                continue  # zeros of the padding are missing, and nothing else
            refused(archive, data[:end])


def test_what_follows_the_end_is_refused() -> None:
    for end in (".tar", ".tar.gz", ".tar.xz"):
        refused(f"a{end}", PACKERS[end](tarred(("a.hdb", b"x")) + b"more"))


def test_containers_are_checked_against_their_header() -> None:
    body = gzip.compress(tarred(("a.hdb", b"x")))
    for data in (
        cvd(body, md5="0" * 32),
        cvd(body, md5="X"),
        cvd(body, magic=b"ClamAV-XXX:"),
        cvd(body)[:511],
        cvd(body + b"x")[:-1],
        b"",
    ):
        refused("a.cvd", data)
    assert members("a.cvd", cvd(body)) == {"a.hdb": b"x"}


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(zipped(("a.hdb", b"x")))
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    assert "broken" in refused("a.zip", bytes(data))


_SAMPLES = dict(every_kind(("a.hdb", b"44d88612fea8a8f36de82e1278abb02f:68:A\n" * 20), ("b/c.ndb", b"x")))


@given(
    st.sampled_from(sorted(_SAMPLES)),
    st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_any_flips_raise_our_error_or_nothing(name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(_SAMPLES[name])
    for at, byte in flips:
        data[at % len(data)] = byte
    with contextlib.suppress(LintError):
        for one in unpack(name, io.BytesIO(bytes(data)), SMALL):
            assert isinstance(one, SourceFile)


@given(st.sampled_from(sorted(_SAMPLES)), st.binary(max_size=600))
def test_any_bytes_raise_our_error_or_nothing(name: str, data: bytes) -> None:
    with contextlib.suppress(LintError):
        members(name, data)


def test_another_suffix_is_refused() -> None:
    assert "not an archive" in refused("a.rar", b"")
