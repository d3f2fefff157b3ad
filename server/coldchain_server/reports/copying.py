"""Makes one store's reports of a region equal to another's, piece by piece, and says whether they are.

A piece is a run of rows in order. It is written only where it differs, in one transaction, and what the other store does not have is
taken out; so it may be interrupted anywhere and done again, and what was copied is not copied twice::

    original  a=3 b=1 | c=2 d=9 | e=1           copy  a=3 b=1 | c=1 x=4 |          pieces of two rows
                same      differs   missing     ->    a=3 b=1 | c=2 d=9 | e=1

Rows hold counts and not changes, so nothing is ever added up on the way: a row that is copied twice is the row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from coldchain_server.reports.moving import Total
from coldchain_server.reports.store import TABLES, ReportStore, Row, line_of

PIECE: Final = 2000
Progress = Callable[[int], None]
"""Told how many rows were looked at since the last time."""


def copy_region(source: ReportStore, target: ReportStore, region: str, progress: Progress = lambda _: None) -> None:
    """Makes what ``target`` keeps of a region equal to what ``source`` does. Raises StorageError."""
    for table in TABLES:
        after: Row = ()
        while True:
            rows = source.span(table, region, after, most=PIECE)
            upto = rows[-1] if len(rows) == PIECE else ()
            if target.span(table, region, after, upto) != rows:
                target.put_span(table, region, after, upto, rows)
            progress(len(rows))
            if not upto:
                break
            after = upto


def total(store: ReportStore, regions: Iterable[str]) -> Total:
    """What a store keeps of these regions, counted and digested: SHA-256 over all lines, region by region. Raises StorageError."""
    digest = hashlib.sha256()
    reports = rows = 0
    for region in regions:
        for table, piece in _pieces(store, region):
            digest.update(b"".join(line_of(table, row) for row in piece))
            if table == "counts":
                rows += len(piece)
                reports += sum(row[-1] for row in piece)
    return Total(reports, rows, digest.hexdigest())


NOTHING: Final = Total(0, 0, hashlib.sha256().hexdigest())


def _pieces(store: ReportStore, region: str) -> Iterator[tuple[str, list[Row]]]:
    for table in TABLES:
        after: Row = ()
        while rows := store.span(table, region, after, most=PIECE):
            yield table, rows
            after = rows[-1]
