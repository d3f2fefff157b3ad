"""The ``.ccd`` files of a release: the full bundle and the ladder of deltas, each tried with the client's own code.

Changes come from change lists: a release is diffed once, against the one before; older sources follow by composing. Where a list
cannot say it all (a section came or went as a whole in between), that one change is diffed from the content store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from coldchain.bundle.delta import apply_delta
from coldchain.bundle.description import BundleDescription, Section, parse_description
from coldchain.errors import DigestError, InternalError, MalformedError, VerificationError
from coldchain_server.deltas.changes import BundleChange, encode_change_list, parse_change_list
from coldchain_server.deltas.compose import compose
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.deltas.encoded import Encoded
from coldchain_server.deltas.ladder import ladder
from coldchain_server.home import Home
from coldchain_server.release.drafts import Draft, measure
from coldchain_server.storage.content import ContentStore

BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """A published release that deltas may start from."""

    number: int
    digest: str


class _StoredBundle:
    """A bundle of the content store, as the client's code reads an old one."""

    def __init__(self, description: BundleDescription, content: ContentStore) -> None:
        self.description = description
        self._content = content

    def open(self, name: str) -> BinaryIO:
        section = self.description.section(name)
        if section is None:
            raise DigestError(f"no section {name}")
        return self._content(section.sha256).open("rb")


class _Nowhere:
    """Takes the sections of a trial and keeps nothing; their digests are the applying code's business."""

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        with open("/dev/null", "wb") as nothing:  # noqa: PTH123  the device, not a file of ours
            yield nothing

    def keep(self, section: Section) -> None:
        return


def load_description(content: ContentStore, digest: str) -> BundleDescription:
    """A description kept by its digest. Raises StorageError when it is not there or damaged."""
    return parse_description(content.get(digest))


def write_bundle_files(
    home: Home,
    draft: Draft,
    channel: str,
    region: str,
    new: BundleDescription,
    published: Sequence[Source],
    *,
    recent: int,
    encoded: Encoded,
) -> tuple[dict[str, tuple[int, str]], BundleChange | None]:
    """Writes the full bundle and all deltas of one region into the draft.

    Args:
        home: where content and change lists are.
        draft: takes the files.
        channel: of the release.
        region: of the bundle.
        new: the bundle; its sections are in the content store.
        published: the region's published releases of this channel, oldest first.
        recent: how many releases back the ladder is dense.
        encoded: keeps encoded parts, which regions share.

    Returns:
        File name -> (length, SHA-256), and the change since the newest published release (None: there is none).

    Raises:
        InternalError: a file does not rebuild the bundle when the client's code applies it. Nothing is published then.
    """
    files = {"full.ccd": _encode(home, draft, region, "full.ccd", BundleChange(None, new), None, encoded)}
    if not published:
        return files, None
    newest = load_description(home.content, published[-1].digest)
    step = diff_bundles(newest, new, home.content)
    draft.write(draft.directory / "changes" / f"{region}.cch", encode_change_list(step))
    wanted = {published[rung - 1].number for rung in ladder(len(published) + 1, 1, recent)}
    change = step
    for at in range(len(published) - 1, -1, -1):
        source = published[at]
        if at < len(published) - 1:
            change = _longer(home, channel, region, source, published[at + 1], change)
        if source.number in wanted:
            name = f"from-{source.number}.ccd"
            written = _encode(home, draft, region, name, change, change.old, encoded)
            if written[0] < files["full.ccd"][0]:
                files[name] = written
            else:
                draft.target(region, name).unlink()  # no smaller than the full bundle: nobody would want it
        wanted.discard(source.number)
        if not wanted:
            break
    return files, step


def _longer(
    home: Home, channel: str, region: str, source: Source, following: Source, change: BundleChange
) -> BundleChange:
    """The change from ``source``, out of that from the release after it."""
    try:
        first = parse_change_list(home.change_list(channel, region, source.number, following.number).read_bytes())
        composed = compose(first, change)
    except (OSError, MalformedError):
        composed = None  # the list is gone or damaged; the content store knows both bundles
    if composed is not None:
        return composed
    return diff_bundles(load_description(home.content, source.digest), change.new, home.content)


def _encode(
    home: Home,
    draft: Draft,
    region: str,
    name: str,
    change: BundleChange,
    old: BundleDescription | None,
    encoded: Encoded,
) -> tuple[int, str]:
    path = draft.target(region, name)
    with draft.writing(path) as out:
        encode_delta(change, home.content, out, encoded)
    check_bundle_file(path.open("rb"), home.content, old, change.new.digest, f"{region} {name}")
    return measure(path)


def check_bundle_file(
    file: BinaryIO, content: ContentStore, old: BundleDescription | None, expected: str, what: str
) -> None:
    """Applies a bundle file with the client's code and throws the outcome away.

    Raises:
        InternalError: it does not give the bundle with digest ``expected``.
    """
    stored = None if old is None else _StoredBundle(old, content)
    try:
        with file:
            apply_delta(file, stored, _Nowhere(), expected=expected)
    except VerificationError as error:
        raise InternalError(
            f"{what} does not rebuild its bundle: {error.what}", kept="the releases published before"
        ) from error
