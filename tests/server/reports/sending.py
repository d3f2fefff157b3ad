"""Sending reports to a server over a real socket, as an endpoint or an edge does, and reading what it counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from coldchain.outcome_report import OutcomeReport, ReportOutcome
from coldchain_server.home import Home
from coldchain_server.reports.store import Count
from coldchain_server.reports.stores import report_store

CODES: dict[ReportOutcome, int] = {"applied": 0, "refused": 12, "engine-failed": 30}


def report(outcome: ReportOutcome = "applied", region: str = "jp", release: int = 1, source: int = 0) -> bytes:
    return OutcomeReport(region, "stable", source, release, outcome, CODES[outcome], "0.1.0").encode()


async def post(port: int, body: bytes, *fields: str, local: str = "127.0.0.1") -> int:
    """The status of one POST on a connection of its own, from this address of the machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(local, 0))
    try:
        lines = ["POST /v1/reports HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *fields, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        return int((await reader.readuntil(b"\r\n")).split()[1])
    finally:
        writer.close()


async def post_all(port: int, bodies: Iterable[bytes], local: str = "127.0.0.1") -> list[int]:
    return list(await asyncio.gather(*(post(port, body, local=local) for body in bodies)))


def counted(home: Home, region: str = "jp") -> list[Count]:
    with report_store(home, region) as store:
        return store.rows(region)


def sums(home: Home, region: str = "jp", release: int = 1) -> dict[tuple[str, str], int]:
    """(Sender, outcome) -> count."""
    with report_store(home, region) as store:
        return {(sender, outcome): count for sender, outcome, count in store.sums(region, "stable", release)}
