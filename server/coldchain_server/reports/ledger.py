"""Entering reports into stores: what comes within a moment is committed together, and answered for when that is on the disk.

One commit costs some milliseconds of the disk, however much is in it; so a server that takes a thousand reports a second commits
twenty times. A batch of an edge has a transaction of its own, with its number.

Rows are bounded, whatever senders make up: beyond :data:`MOST_KEYS` different counts of a sender in a region and hour, what a report
says of its source, code and client is left out, which the judgement of a rollout does not need.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from coldchain.errors import ColdchainError, InternalError
from coldchain_server.reports.store import Batch, Count, ReportStore

MOST_KEYS: Final = 256
PAUSE_SECONDS: Final = 0.05
LEFT_OUT: Final = "other"
_CODES: Final = {"applied": 0, "refused": 12, "engine-failed": 30}


@dataclass(slots=True)
class _Entry:
    counts: list[Count]
    batch: Batch | None
    done: asyncio.Future[bool]

    @property
    def region(self) -> str:
        return self.batch.region if self.batch is not None else self.counts[0].region


class Ledger:
    """Belongs to one event loop.

    Args:
        open_store: the store of a region, open; it is closed again after each commit, for a region may move to another one.
        entered: told after each commit.
        pause: seconds that the first of a commit waits for others.
    """

    def __init__(
        self,
        open_store: Callable[[str], ReportStore],
        entered: Callable[[], None] = lambda: None,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._open, self._entered, self._pause = open_store, entered, pause
        self._pending: list[_Entry] = []
        self._task: asyncio.Task[None] | None = None
        self._hour = ""
        self._keys: Counter[tuple[str, str]] = Counter()
        self._known: set[Count] = set()

    async def add(self, counts: Sequence[Count], batch: Batch | None = None) -> bool:
        """Counts of one region, entered durably when this returns.

        Returns:
            False when it was a batch that was counted before.

        Raises:
            BusyError: the region is being moved.
            StorageError: the disk refused. In both cases nothing was counted.
        """
        if not counts and batch is None:
            return True
        entry = _Entry([self._bounded(one) for one in counts], batch, asyncio.get_running_loop().create_future())
        self._pending.append(entry)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._commit())
        return await entry.done

    def _bounded(self, one: Count) -> Count:
        if one.hour > self._hour:
            self._hour = one.hour
            self._keys.clear()
            self._known.clear()
        key = replace(one, count=0)
        if key in self._known:
            return one
        place = (one.sender, one.region)
        if self._keys[place] >= MOST_KEYS:
            return replace(one, source=0, code=_CODES[one.outcome], version=LEFT_OUT)
        self._keys[place] += 1
        self._known.add(key)
        return one

    async def _commit(self) -> None:
        while self._pending:
            await asyncio.sleep(self._pause)
            entries, self._pending = self._pending, []
            for region in dict.fromkeys(entry.region for entry in entries):
                part = [entry for entry in entries if entry.region == region]
                try:
                    ends = await asyncio.to_thread(self._enter, region, part)
                except ColdchainError as error:
                    ends = [error] * len(part)
                except Exception as error:  # noqa: BLE001  whoever waits for an answer must get one
                    ends = [InternalError(f"{type(error).__name__}: {error}")] * len(part)
                for entry, end in zip(part, ends, strict=True):
                    _tell(entry.done, end)
            self._entered()

    def _enter(self, region: str, entries: Sequence[_Entry]) -> list[bool | ColdchainError]:
        """What each entry ended with: a batch that the disk refuses does not speak for the reports beside it."""
        with self._open(region) as store:
            singles = summed(count for entry in entries if entry.batch is None for count in entry.counts)
            one: bool | ColdchainError = _end(lambda: store.add(singles)) if singles else True
            return [
                one if entry.batch is None else _end(partial(store.add, entry.counts, entry.batch)) for entry in entries
            ]


def _end(work: Callable[[], bool]) -> bool | ColdchainError:
    try:
        return work()
    except ColdchainError as error:
        return error


def _tell(done: asyncio.Future[bool], end: bool | ColdchainError) -> None:
    if done.done():
        return
    if isinstance(end, ColdchainError):
        done.set_exception(end)
    else:
        done.set_result(end)


def summed(counts: Iterable[Count]) -> list[Count]:
    """The same with one count for each key, ordered."""
    sums: Counter[Count] = Counter()
    for one in counts:
        sums[replace(one, count=0)] += one.count
    return sorted(replace(one, count=count) for one, count in sums.items())
