"""What an edge has counted and not yet sent on: a store of reports with, for each region, the one batch that is under way.

::

    .mirror/reports/reports.sqlite
        counts, batches ...                   as in every store: what came since the last batch, and what other edges sent here
        outgoing   region, number, body, url  the batch under way; url is the upstream that may have counted it without our knowing
        numbers    region, last               of the last batch

Counts become a batch, with its number, in one transaction, and the batch goes when an upstream has said that it counted it. So a
report is in the counts, in the batch, or at the upstream, whatever dies; and one that is sent again has the number it had. A batch
whose answer did not come is sent to no other upstream than the one that did not answer: two of them might count it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from coldchain.limits import LIMITS
from coldchain.mirror.directory import OWN
from coldchain_server.reports.batch import encode_batch
from coldchain_server.reports.store import Count, ReportStore

FOLDER: Final = "reports"
_KEY: Final = "channel, source, release, outcome, code, version, hour"
_SCHEMA: Final = (
    "CREATE TABLE outgoing (region TEXT PRIMARY KEY, number INTEGER NOT NULL, body BLOB NOT NULL, url TEXT) WITHOUT ROWID",
    "CREATE TABLE numbers (region TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
)


def edge_reports(edge: Path) -> Path:
    """Where an edge keeps what is about reports; ``edge`` is its directory."""
    return edge / OWN / FOLDER


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The batch under way; ``url`` is where it may have been counted, None when it was counted nowhere."""

    region: str
    number: int
    body: bytes
    url: str | None


def _count(region: str, row: tuple[Any, ...]) -> Count:
    channel, source, release, outcome, code, version, hour, count = row
    return Count(region, channel, source, release, outcome, code, version, hour, "", count)


class Spool(ReportStore):
    """See the module."""

    def _schema(self) -> tuple[str, ...]:
        return (*super()._schema(), *_SCHEMA)

    def pending(self) -> list[str]:
        """The regions that something is to be sent on of."""
        return [
            row[0] for row in self._rows("SELECT region FROM counts UNION SELECT region FROM outgoing ORDER BY region")
        ]

    def cut(self, region: str, now: int, most: int = LIMITS.report_batch_counts) -> Outgoing | None:
        """The batch under way; where there is none, one of what was counted since. None when nothing was.

        Args:
            region: whose reports.
            now: Unix seconds: numbers begin there in a new directory.
            most: counts in a batch.

        Raises:
            StorageError: the disk refused; nothing changed.
        """
        with self._transaction():
            found = self._rows("SELECT region, number, body, url FROM outgoing WHERE region = ?", (region,))
            if found:
                return Outgoing(*found[0])
            rows = self._rows(
                f"SELECT {_KEY}, SUM(count) FROM counts WHERE region = ? GROUP BY {_KEY} ORDER BY {_KEY} LIMIT ?",  # noqa: S608
                (region, most),
            )
            if not rows:
                return None
            last = self._rows("SELECT last FROM numbers WHERE region = ?", (region,))
            number = max(now, last[0][0] + 1 if last else 1)
            body = encode_batch(region, number, [_count(region, row) for row in rows])
            self._connection.executemany(
                f"DELETE FROM counts WHERE region = ? AND ({_KEY}) = (?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [(region, *row[:-1]) for row in rows],
            )
            self._connection.execute("INSERT OR REPLACE INTO numbers VALUES (?, ?)", (region, number))
            self._connection.execute("INSERT INTO outgoing VALUES (?, ?, ?, NULL)", (region, number, body))
            return Outgoing(region, number, body, None)

    def asked(self, batch: Outgoing, url: str | None) -> None:
        """Remembers, before it is sent, which upstream may count the batch; None when it is known that none did."""
        with self._transaction():
            self._connection.execute(
                "UPDATE outgoing SET url = ? WHERE region = ? AND number = ?", (url, batch.region, batch.number)
            )

    def done(self, batch: Outgoing) -> None:
        """Forgets a batch that an upstream has counted, or that none ever will."""
        with self._transaction():
            self._connection.execute(
                "DELETE FROM outgoing WHERE region = ? AND number = ?", (batch.region, batch.number)
            )
