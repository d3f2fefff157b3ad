"""Several sources of one published tree, asked in their order until one has a good answer.

When none is good, the most telling refusal counts: bytes that lie say more than bytes that did not come::

    https://a.example   503          ThrottledError
    https://b.example   other bytes  DigestError      <- this one is raised

Whoever was no good while another was is noted (``conduct``), and asked later in runs to come (:mod:`coldchain.install.source_health`).

A pack that came with the news (:mod:`coldchain.agent.quick_update`) is asked before all of them, and no answer of it is the last word.

A file of size is completed in staging, wherever its pieces come from: its length and digest are signed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from coldchain.agent.transport import Progress, Source
from coldchain.errors import (
    ColdchainError,
    DigestError,
    EvidenceError,
    NewerFormatError,
    ThrottledError,
    TransportError,
    VerificationError,
)
from coldchain.install.directory import ClientDirectory
from coldchain.install.part import Part
from coldchain.install.source_health import Conduct
from coldchain.verify import Target

TRIES: Final = 4
T = TypeVar("T")


class Sources:
    """The sources of one run.

    Args:
        sources: in the order they are asked; at least one.
        directory: whose staging downloads are completed in; its lock is held.
        progress: told how a download comes on.
        conduct: told how the sources behave; None where nobody wants to know.
    """

    def __init__(
        self,
        sources: list[Source],
        directory: ClientDirectory,
        progress: Progress,
        conduct: Conduct | None = None,
    ) -> None:
        self._sources, self._directory, self._progress, self._conduct = sources, directory, progress, conduct
        self._pack: Source | None = None

    def ask_first(self, pack: Source) -> None:
        """Asks this pack before every source from now on. What it lacks, or what is wrong in it, is as if it had not come."""
        self._pack = pack

    @property
    def first(self) -> Source:
        """The one that is asked first."""
        return self._sources[0]

    @property
    def others(self) -> list[Source]:
        """The ones that are asked after it."""
        return self._sources[1:]

    def prefer(self, source: Source) -> None:
        """Asks this one first from now on."""
        self._sources.remove(source)
        self._sources.insert(0, source)

    def turn(self) -> bool:
        """Asks the first one last from now on; False when there is no other."""
        self._sources.append(self._sources.pop(0))
        return len(self._sources) > 1

    async def first_good(self, ask: Callable[[Source], Awaitable[T]], *, blame: bool = False) -> tuple[T, Source]:
        """The first good answer, and whose it is.

        Args:
            ask: what is asked of each.
            blame: every source should have a good answer: those before the first that has are noted, and where none has, those
                whose bytes lie. What did not come at all from anybody is the network's fault.

        Raises:
            ColdchainError: the most telling refusal, when none is good.
        """
        errors: list[tuple[Source, ColdchainError]] = []
        for source in self._sources:
            try:
                found = await ask(source)
            except (VerificationError, EvidenceError, NewerFormatError, TransportError) as error:
                errors.append((source, error))
            else:
                self._note([*errors, (source, None)] if blame else [])
                return found, source
        refused = [(source, error) for source, error in errors if not isinstance(error, TransportError)]
        self._note(refused if blame else [])
        raise (refused or errors)[0][1]

    def _note(self, ends: Sequence[tuple[Source, ColdchainError | None]]) -> None:
        for source, error in ends:
            if self._conduct is not None:
                self._conduct.note(source.url, error)

    async def answer(self, ask: Callable[[Source], Awaitable[bytes]]) -> bytes:
        """As :meth:`first_good`, from the pack if it has a good answer, and without whose it is."""
        found = await self.packed(ask)
        return found if found is not None else (await self.first_good(ask))[0]

    async def packed(self, ask: Callable[[Source], Awaitable[bytes]]) -> bytes | None:
        """The pack's answer; None when it has none, or no good one, which is noted against the server it is from."""
        if self._pack is None:
            return None
        try:
            return await ask(self._pack)
        except TransportError:
            return None
        except (VerificationError, EvidenceError, NewerFormatError) as error:
            self._note([(self._pack, error)])
            return None

    async def download(self, target: Target) -> Part:
        """The target's file in staging, whole and as signed. A broken connection is taken up again while it brings bytes."""
        part = Part(self._directory, target.length, target.sha256)

        async def from_pack(pack: Source) -> bytes:
            await pack.download(target.url_path, part, self._progress)
            return b""

        if await self.packed(from_pack) is not None:
            return part

        async def ask(source: Source) -> None:
            for last in range(TRIES):
                before = part.there()
                try:
                    return await source.download(target.url_path, part, self._progress)
                except ThrottledError:
                    raise
                except DigestError as error:
                    # What was there before, from another server or another day, may be what is wrong: once more without it.
                    if not before or last == TRIES - 1:
                        raise DigestError(f"{target.path}: {error.what}", todo=error.todo) from error
                except TransportError:
                    if part.there() <= before or last == TRIES - 1:
                        raise
            return None

        await self.first_good(ask, blame=True)
        return part
