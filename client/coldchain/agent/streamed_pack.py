"""A published pack as a source, while it still comes: its small parts are there, and its content is read when it is wanted, or never.

::

    GET packs/us/stable/107.from-41.pack      the head is read, and nothing further
    get("metadata/107.snapshot.json")         from the head; what it does not hold has to come from somewhere else
    download("targets/us/…from-41.ccd")       the rest of the same answer, into staging
    close()                                   not for this endpoint yet: the rest never came

Nothing is believed for standing in a pack: who asks verifies a part as if it came from anywhere.
"""

from __future__ import annotations

from typing import Final

from coldchain.agent.answer_stream import AnswerStream
from coldchain.agent.transport import BLOCK, Answer, HttpSource, Progress
from coldchain.bundle.pack import HEAD_BYTES, Pack, frame_length, parse_head
from coldchain.errors import DigestError, MalformedError, ResponseError, TransportError
from coldchain.install.part import Part
from coldchain.limits import LIMITS, Limits

BEGINNING: Final = 32 * 1024
"""Bytes of a pack that hold its head, but for the longest ones."""


async def open_streamed_pack(
    source: HttpSource, path: str, limits: Limits = LIMITS, *, beginning_only: bool = False
) -> StreamedPack | None:
    """The pack under this path with its head read; None when the server has none. Whoever gets it closes it.

    Args:
        source: the server.
        path: of the pack.
        limits: bounds.
        beginning_only: ask for the first :data:`BEGINNING` bytes, since the content is hardly wanted: what a server has sent by the
            time that this is known would have come for nothing.

    Raises:
        TransportError: and its kinds, as for every file.
        MalformedError: it is none.
        NewerFormatError: it is of a later version.
    """
    stream = await source.stream(path, BEGINNING if beginning_only else 0)
    if stream is None:
        return None
    try:
        beginning = await stream.exactly(HEAD_BYTES)
        frame = await stream.exactly(frame_length(beginning, limits))
        pack = parse_head(beginning, frame, limits, whole=False)
        if stream.length not in (None, pack.start + pack.length):
            raise MalformedError(f"{stream.name}: {stream.length} bytes announced, {pack.start + pack.length} expected")
    except BaseException:
        stream.close()
        raise
    return StreamedPack(source.url, stream, pack)


class StreamedPack:
    """See the module; ``url`` is the server's. What is not in the pack is a ResponseError."""

    def __init__(self, url: str, stream: AnswerStream, pack: Pack) -> None:
        self.url = url
        self._stream, self._pack = stream, pack
        self._closed = not stream.whole

    def part(self, path: str) -> bytes | None:
        """A small part, if it is there."""
        return self._pack.parts.get(path)

    async def get(self, path: str, most: int, *, etag: str | None = None) -> Answer:
        """See :class:`coldchain.agent.transport.Source`."""
        data = self.part(path)
        if data is None:
            raise self._without(path)
        if len(data) > most:
            raise MalformedError(f"{self._stream.name}: {path}: longer than the allowed {most} bytes")
        return Answer(data)

    async def download(self, path: str, part: Part, progress: Progress) -> None:
        """See :class:`coldchain.agent.transport.Source`. Content of which a beginning is there is not taken from here."""
        small = self.part(path)
        if small is None and (path != self._pack.content or self._closed or part.there()):
            raise self._without(path)
        if (self._pack.length if small is None else len(small)) != part.length:
            raise DigestError(f"{self._stream.name}: {path}: its length is not the signed {part.length} bytes")
        if small is None:
            await self._content(part, progress)
        else:
            with part.append(0) as write:
                write(small)
            progress(part.length, part.length)
        part.check()

    async def _content(self, part: Part, progress: Progress) -> None:
        self._stream.allowance.begin(part.length)
        there = 0
        try:
            with part.append(0) as write:
                while there < part.length and (data := await self._stream.read(min(BLOCK, part.length - there))):
                    write(data)
                    there += len(data)
                    progress(there, part.length)
        finally:
            self.close()
        if there < part.length:
            raise TransportError(f"{self._stream.name}: ended after {there} of {part.length} bytes of content")

    def _without(self, path: str) -> ResponseError:
        return ResponseError(f"{self._stream.name}: holds no {path}")

    def close(self) -> None:
        """Reads no further."""
        self._closed = True
        self._stream.close()
