"""A thousand agents that start together while the server is down: when they ask. A virtual clock over the real parts.

Real are the answers' bytes and the library's parser of them, the transport's judgement of an answer, what an agent remembers of it
(:mod:`coldchain.agent.told`), what it concludes (:func:`coldchain.agent.loop.ending_of`) and the schedule. Only sockets, files and
the passing of time are left out::

    python -m benchmarks.agent_fleet            the histogram as text, and docs/agent-fleet.svg

Beside it the same fleet with what clients often do: ask again exactly when told.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from aiohttp.http_parser import HttpResponseParser

from coldchain.agent import schedule
from coldchain.agent.allowance import Allowance
from coldchain.agent.answer_fields import poll_seconds
from coldchain.agent.loop import ending_of
from coldchain.agent.network import NetworkSettings
from coldchain.agent.told import Told
from coldchain.agent.transport import HttpSource, Traffic, _Manner
from coldchain.errors import ColdchainError
from coldchain.limits import LIMITS

URL: Final = "https://coldchain.example"
START: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
PICTURE: Final = Path(__file__).parents[1] / "docs" / "agent-fleet.svg"
SEED: Final = 4
Answers = Callable[[float], bytes]
"""The server: the bytes of its answer to a request at that second."""


def outage(seconds: float, retry: int, *, as_date: bool = False) -> Answers:
    """A server that answers 503 with Retry-After for so long, and then 304."""

    def answer(now: float) -> bytes:
        if now >= seconds:
            return b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: no-cache\r\n\r\n'
        when = format_datetime(START + timedelta(seconds=now + retry), usegmt=True) if as_date else str(retry)
        return f"HTTP/1.1 503 Service Unavailable\r\nRetry-After: {when}\r\nContent-Length: 0\r\n\r\n".encode()

    return answer


@dataclass
class Endpoint:
    """One agent: what it remembers, and when the server told it to come back at the earliest."""

    told: Told
    source: HttpSource
    failures: int = 0
    not_before: float = 0.0


@dataclass
class Fleet:
    """What was seen at the server: the seconds of all requests, and of those that came earlier than told."""

    asked: list[float] = field(default_factory=list)
    early: list[tuple[float, float]] = field(default_factory=list)
    good: int = 0

    def histogram(self, width: float) -> Counter[int]:
        """Requests by interval of that many seconds."""
        return Counter(int(second // width) for second in self.asked)


def run(count: int, answers: Answers, until: float, *, seed: int = SEED, naive: bool = False) -> Fleet:
    """The fleet's requests from 0 to ``until`` seconds.

    Args:
        count: of agents, all started at 0.
        answers: the server.
        until: where the clock stops.
        seed: of all randomness.
        naive: clients instead that start at once and ask again exactly when told, or every hour.
    """
    loop = asyncio.new_event_loop()
    try:
        return _run(loop, count, answers, until, random.Random(seed), naive)
    finally:
        loop.close()


def _run(
    loop: asyncio.AbstractEventLoop, count: int, answers: Answers, until: float, chance: random.Random, naive: bool
) -> Fleet:
    now = 0.0
    fleet, rules = Fleet(), schedule.Rules()
    session: Any = None  # nothing is opened
    endpoints = []
    for _ in range(count):
        told = Told(lambda: now)
        manner = _Manner(LIMITS, NetworkSettings(), told, Allowance())
        endpoints.append(Endpoint(told, HttpSource(URL, session, Traffic(), manner, None)))
    queue = [(0.0 if naive else schedule.first_wait(0.0, chance.random), number) for number in range(count)]
    heapq.heapify(queue)
    while queue and queue[0][0] < until:
        now, number = heapq.heappop(queue)
        one = endpoints[number]
        fleet.asked.append(now)
        if now < one.not_before:
            fleet.early.append((now, one.not_before))
        response = _parsed(loop, answers(now))
        # what the server meant, by the standard and not by the client's code
        one.not_before = now + _meant(response.headers.get("Retry-After"), START + timedelta(seconds=now))
        if naive:
            heapq.heappush(queue, (max(one.not_before, now + (3600.0 if response.status == 304 else 1.0)), number))
            continue
        ending: schedule.Ending = "good"
        try:
            # a Retry-After may be a date
            with mock.patch("coldchain.agent.answer_fields.datetime", _clock(now)):
                one.source._expect("metadata/timestamp.json", response, (304,))
        except ColdchainError as error:
            ending = ending_of(error)
        fleet.good += ending == "good"
        hint = poll_seconds(response.headers)
        after = schedule.after(ending, one.failures, one.told.wait(URL), hint, rules, chance.random)
        one.failures = after.failures
        heapq.heappush(queue, (now + after.wait, number))
    return fleet


def _meant(value: str | None, now: datetime) -> float:
    if value is None:
        return 0.0
    if value.isdecimal():
        return float(value)
    at = datetime.strptime(value, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return max((at - now).total_seconds(), 0.0)


def _parsed(loop: asyncio.AbstractEventLoop, data: bytes) -> Any:
    """The answer's head, by the parser that the transport uses."""
    nobody: Any = None  # no protocol: there is no body
    parser = HttpResponseParser(nobody, loop, 2**16)
    ((message, _),), _, _ = parser.feed_data(data)
    return SimpleNamespace(status=message.code, headers=message.headers)


def _clock(now: float) -> SimpleNamespace:
    at = START + timedelta(seconds=now)
    return SimpleNamespace(now=lambda _zone: at)


def text(fleet: Fleet, naive: Fleet, width: float = 60.0, rows: int = 45) -> Iterator[str]:
    """The histogram as lines."""
    ours, theirs = fleet.histogram(width), naive.histogram(width)
    scale = 60 / max(max(ours.values()), 1)
    yield f"requests in each {width:.0f} s: this agent | exactly when told"
    for row in range(rows):
        yield f"{row * width / 60:5.0f} min {'#' * round(ours[row] * scale):<61}{ours[row]:5} | {theirs[row]:5}"


def picture(fleet: Fleet, naive: Fleet, minutes: int, down: float) -> str:
    """The two histograms by ten seconds, as SVG."""
    width, height, left = 900, 170, 50
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width + left + 10} {2 * height + 90}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width + left + 10}" height="{2 * height + 90}" fill="#fff"/>',
    ]
    for index, (name, one) in enumerate((("coldchain agent", fleet), ("a client that asks exactly when told", naive))):
        found = one.histogram(10.0)
        most, base = max(found.values()), 30 + (height + 40) * index + height
        title = f"{name}: at most {most} of {len(one.asked):,} requests in any 10 s"
        out.append(f'<text x="{left}" y="{base - height - 8}" font-weight="bold">{title}</text>')
        out.append(
            f'<rect x="{left}" y="{base - height}" width="{width * min(down / 60 / minutes, 1):.1f}" height="{height}" fill="#fbeaea"/>'
        )
        path = "".join(
            f"M{left + (bar + 0.5) * width / (6 * minutes):.1f} {base}V{base - height * found[bar] / most:.1f}"
            for bar in range(6 * minutes)
            if found[bar]
        )
        out.append(f'<path d="{path}" stroke="#1f5fa8" stroke-width="{width / (6 * minutes) * 0.9:.2f}"/>')
        out.append(f'<path d="M{left} {base}H{left + width}" stroke="#444"/>')
        out.append(f'<text x="{left - 6}" y="{base - height + 10}" text-anchor="end">{most}</text>')
        out += [
            f'<text x="{left + minute * width / minutes:.1f}" y="{base + 16}" text-anchor="middle">{minute} min</text>'
            for minute in range(0, minutes + 1, 15)
        ]
    out.append("</svg>\n")
    return "\n".join(out)


def shown() -> tuple[Fleet, Fleet]:
    """What docs/agent.md shows: an hour's outage and two hours after it."""
    answers = outage(3600.0, 120)
    return run(1000, answers, 3 * 3600.0), run(1000, answers, 3 * 3600.0, naive=True)


def main() -> None:
    fleet, naive = shown()
    print("\n".join(text(fleet, naive, rows=180)))
    ours, theirs = (max(one.histogram(1.0).values()) for one in (fleet, naive))
    print(
        f"{len(fleet.asked):,} requests, {len(fleet.early)} earlier than told; most in one second: {ours}, naive {theirs}"
    )
    PICTURE.write_text(picture(fleet, naive, 180, 3600.0), encoding="utf-8")


if __name__ == "__main__":
    main()
