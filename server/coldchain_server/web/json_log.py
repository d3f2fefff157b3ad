r"""Log records as one JSON object a line, without any client's address.

Worked example::

    {"time":"2026-11-25T09:00:00.123Z","level":"info","logger":"coldchain.origin","message":"listening","port":8080}

Members of ``extra=`` join the object. There is no log of requests: what they were is counted, who they were is not kept.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Final, TextIO

_OWN: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
FOREIGN: Final = "coldchain.http"  # what aiohttp says goes through this logger, and through WithoutAddresses


_PEER: Final = re.compile(r"raddr=\([^)]*\)")  # as asyncio writes sockets in its messages


class JsonLines(logging.Formatter):
    """Formats a record as a JSON object without line breaks, and without the far end of a socket."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as text. Values that JSON does not know are written as text."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _PEER.sub("raddr=…", record.getMessage()),
        }
        line.update((key, value) for key, value in record.__dict__.items() if key not in _OWN)
        if record.exc_info and record.exc_info[0] is not None:
            kind, error, where = record.exc_info
            line["error"] = _PEER.sub("raddr=…", f"{kind.__name__}: {error}")
            line["trace"] = [f"{at.filename}:{at.lineno} {at.name}" for at in traceback.extract_tb(where)]
        return json.dumps(line, default=str, ensure_ascii=False)


class WithoutAddresses(logging.Filter):
    """Takes the arguments out of aiohttp's records: its messages name the client's address and its bytes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrites the record; keeps all of them. Malformed requests become one quiet line without a trace."""
        record.msg = record.msg.split(" from %s")[0] if isinstance(record.msg, str) else "error"
        record.args = ()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__.startswith("aiohttp"):
            record.exc_info = None
            record.__dict__["kind"] = type(error).__name__
        return True


def log_as_json(stream: TextIO | None = None, level: int = logging.INFO) -> logging.Handler:
    """Sends the project's records (logger ``coldchain`` and below, asyncio's errors) to ``stream``, standard error by default.

    Returns:
        The handler, for whoever wants to take it away again.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("coldchain", "asyncio"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.propagate = False
    logging.getLogger("coldchain").setLevel(level)
    return handler


def foreign_logger() -> logging.Logger:
    """The logger to hand to aiohttp."""
    logger = logging.getLogger(FOREIGN)
    if not any(isinstance(one, WithoutAddresses) for one in logger.filters):
        logger.addFilter(WithoutAddresses())
    return logger
