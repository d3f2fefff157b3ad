"""The agent's log: one line for each thing that happened, to stderr.

::

    2026-06-01T12:28:00Z warning poll failed: throttled: https://a.example answers 503: too busy; next poll in 151 s
    {"error":"ThrottledError","event":"poll failed","exit_code":21,"level":"warning","next_seconds":151,"time":"2026-06-01T12:28:00Z",…}

Where stderr is the journal's (``JOURNAL_STREAM``), a line begins with ``<4>`` for its priority and has no time, which the journal
writes itself. Whatever a server said is shown without what could move a terminal's cursor or begin another line.

Source: ``man 3 sd-daemon`` for the prefixes, ``man 5 systemd.exec`` for JOURNAL_STREAM.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from coldchain.canonical import JSON

Level = Literal["error", "warning", "info"]
PRIORITIES: Final[dict[Level, int]] = {"error": 3, "warning": 4, "info": 6}


def _now() -> datetime:
    return datetime.now(UTC)


class LogLines:
    """Writes the lines.

    Args:
        stream: stderr; None when the process has none.
        as_json: lines for programs.
        journal: whether the stream is the journal's.
        now: the clock.
    """

    def __init__(
        self, stream: TextIO | None, *, as_json: bool = False, journal: bool = False, now: Callable[[], datetime] = _now
    ) -> None:
        self._stream, self._as_json, self._journal, self._now = stream, as_json, journal, now

    def line(self, level: Level, event: str, words: str = "", **fields: JSON) -> None:
        """One line.

        Args:
            level: error, warning or info.
            event: what happened, always in the same words for the same thing.
            words: the rest of the sentence, for a person.
            fields: the same for a program.
        """
        time = f"{self._now():%Y-%m-%dT%H:%M:%SZ}"
        if self._as_json:
            text = json.dumps({**fields, "time": time, "level": level, "event": event}, sort_keys=True)
        else:
            text = f"{event}: {words}" if words else event
            text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
            text = text if self._journal else f"{time} {level} {text}"
        prefix = f"<{PRIORITIES[level]}>" if self._journal else ""
        # a log that cannot be written is no reason to stop protecting
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.write(f"{prefix}{text}\n")
                self._stream.flush()


def is_journal(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected with its journal."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if stream is None or not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (int(device), int(inode))
