"""Log lines: one JSON object each, whole, and without anybody's address."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from coldchain_server.web.json_log import foreign_logger, log_as_json


@pytest.fixture
def lines() -> Iterator[Any]:
    stream = io.StringIO()
    handler = log_as_json(stream)

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield read
    for name in ("coldchain", "asyncio"):
        logging.getLogger(name).removeHandler(handler)
        logging.getLogger(name).propagate = True


def test_a_record_is_one_object_on_one_line(lines: Any) -> None:
    logging.getLogger("coldchain.x").info("two\nlines %s", "é", extra={"port": 8080, "what": object})
    (line,) = lines()
    assert (line["level"], line["logger"], line["message"], line["port"]) == (
        "info",
        "coldchain.x",
        "two\nlines é",
        8080,
    )
    assert line["time"].endswith("Z")
    assert "object" in line["what"]


def test_an_error_keeps_its_kind_and_its_places(lines: Any) -> None:
    try:
        raise ValueError("no\nsuch")
    except ValueError:
        logging.getLogger("coldchain.x").exception("failed")
    (line,) = lines()
    assert line["error"] == "ValueError: no\nsuch"
    assert any("test_json_log.py" in where for where in line["trace"])


def test_what_aiohttp_says_loses_address_and_trace(lines: Any) -> None:
    foreign_logger().error("Error handling request from %s", "192.0.2.7")
    foreign_logger().error("192.0.2.7 did something", 1)
    from aiohttp.http_exceptions import BadStatusLine

    try:
        raise BadStatusLine("GET 192.0.2.7")
    except BadStatusLine:
        foreign_logger().exception("Error handling request from %s", "192.0.2.7")
    first, _, third = lines()
    assert first["message"] == "Error handling request"
    assert third["kind"] == "BadStatusLine"
    assert "trace" not in third
    assert "192.0.2.7" not in json.dumps([first, third])


def test_what_asyncio_says_loses_the_far_end_of_a_socket(lines: Any) -> None:
    socket = (
        "<asyncio.TransportSocket fd=9, family=2, type=1, proto=0, laddr=('10.0.0.1', 80), raddr=('192.0.2.7', 51234)>"
    )
    try:
        raise OSError(f"bad {socket}")
    except OSError:
        logging.getLogger("asyncio").exception("Exception in callback\nsocket: %s", socket)
    (line,) = lines()
    assert "192.0.2.7" not in json.dumps(line)
    assert "10.0.0.1" in line["message"]
