"""A pack as a source: what :mod:`coldchain.agent.transport` gets from a server or a directory, from one file, without a network.

The update does not know the difference. It asks for the paths it would ask a server for; what the pack does not hold is not there::

    get("metadata/timestamp.json")              its bytes, or "not modified"
    get("metadata/3.root.json")                 missing: root 2 is the newest
    download("targets/us/stable/….from-41.ccd") the rest of the file, from where an earlier run stopped

What a pack says of itself (its region, the release it starts from) is good for one thing: a refusal in plain words, before the
verification would refuse the same in less plain ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from coldchain.agent.transport import BLOCK, Answer, Progress, Traffic, computed_etag
from coldchain.bundle.pack import Pack, read_pack
from coldchain.errors import ColdchainError, ExpiredError, ResponseError, TransportError, UsageError, VerificationError
from coldchain.install.directory import Config
from coldchain.install.part import Part
from coldchain.limits import LIMITS, Limits
from coldchain.verify import RegionRelease, Target

_KEPT: Final = "what is installed stays in use"


@contextlib.contextmanager
def open_pack_file(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its length; a FIFO or a device in its place does not block.

    Raises:
        UsageError: it is none, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", kept=_KEPT, todo="give a file made by `coldchain pack`"
        ) from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise UsageError(f"{path} is not a regular file", kept=_KEPT, todo="copy it to one first")
    with os.fdopen(descriptor, "rb") as file:
        yield file, found.st_size


@contextlib.contextmanager
def open_pack(path: Path, traffic: Traffic, limits: Limits = LIMITS) -> Iterator[PackSource]:
    """The source of a pack, until the block ends.

    Raises:
        UsageError: there is no such file.
        MalformedError, NewerFormatError: it is no pack that this client reads.
    """
    with open_pack_file(path) as (file, size):
        yield PackSource(str(path), file, read_pack(file, size, limits), traffic)


class PackSource:
    """See the module; ``url`` is the pack's path."""

    def __init__(self, url: str, file: BinaryIO, pack: Pack, traffic: Traffic) -> None:
        self.url = url
        self._file, self._pack, self._traffic = file, pack, traffic
        self._lacking: str | None = None

    def check_for(self, config: Config) -> None:
        """Refuses another region's or channel's pack.

        Raises:
            UsageError: it is one.
        """
        named, followed = (self._pack.region, self._pack.channel), (config.region, config.channel)
        if named != followed:
            raise UsageError(
                f"{self.url} is a pack for {' '.join(named)}, and this endpoint follows {' '.join(followed)}",
                kept=_KEPT,
                todo=f"have one made: coldchain pack URL --region {config.region} --channel {config.channel} -o FILE",
            )

    def holds(self, target: Target) -> bool:
        """Whether this target is the pack's content, by its name."""
        return target.url_path == self._pack.content

    def check_content(self, release: RegionRelease, installed: int | None) -> None:
        """Refuses a pack whose content cannot be applied here, before its evidence is looked at.

        Raises:
            ResponseError: neither the delta from the installed release nor the full bundle.
        """
        if not self.holds(release.full) and not self.holds(release.best(installed)):
            self._lacking = release.best(installed).url_path
            raise ResponseError(f"the pack is not for this endpoint's step to release {release.release}")

    def explain(self, error: ColdchainError, installed: int | None) -> None:
        """Says what to do about a refusal: a server would be asked again, another pack must be made."""
        start = f" --from {installed}" if installed else ""
        again = (
            f"have another pack made for this endpoint: coldchain pack URL --region {self._pack.region}{start} -o FILE"
        )
        if self._lacking is not None:
            error.what = f"{error.what}; {self.url} {self._about(installed)}, without {self._lacking}"
            error.args = (error.what,)
            error.todo = again
        elif isinstance(error, ExpiredError):
            error.todo = f"compare the clock with another one; if it is right, the pack is too old: {again}"
        elif isinstance(error, VerificationError | TransportError):
            error.todo = f"the pack is not as it should be: {again}"

    def _about(self, installed: int | None) -> str:
        source = self._pack.source
        made = "holds the full bundle" if source is None else f"was made for an endpoint that has release {source}"
        here = f"has release {installed}" if installed else "has nothing yet"
        return made if source == installed else f"{made}, and this one {here}"

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        """See :class:`coldchain.agent.transport.Source`."""
        self._traffic.requests += 1
        data = self._pack.parts.get(path)
        if data is None:
            if not path.endswith(".root.json"):  # asked for until there is none
                self._lacking = path
            return Answer(None, missing=True)
        if len(data) > most:
            raise ResponseError(f"{self.url}: {path}: longer than the allowed {most} bytes")
        tag = computed_etag(hashlib.sha256(data).hexdigest())
        if tag == etag:
            return Answer(None)
        self._traffic.bytes += len(data)
        return Answer(data, etag=tag)

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        """See :class:`coldchain.agent.transport.Source`."""
        self._traffic.requests += 1
        small = self._pack.parts.get(path)
        if small is None and path != self._pack.content:
            self._lacking = path
            raise ResponseError(f"{self.url}: {path} is not in this pack")
        length = self._pack.length if small is None else len(small)
        if length != part.length:
            raise ResponseError(f"{self.url}: {path}: its length is not the signed {part.length} bytes")
        there = part.there()
        file: BinaryIO = self._file if small is None else io.BytesIO(small)
        try:
            file.seek(there if small is not None else self._pack.start + there)
            with part.append(there) as write:
                while there < length and (data := file.read(min(BLOCK, length - there))):
                    write(data)
                    there += len(data)
                    self._traffic.bytes += len(data)
                    progress(there, length)
        except OSError as error:
            raise ResponseError(f"{self.url}: {path}: {error.strerror}") from error
        if there < length:
            raise TransportError(f"{self.url}: {path}: ended after {there} of {length} bytes")
        part.check()
