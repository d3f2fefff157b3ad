"""A web server over a folder that may misbehave, in the same way for whoever asks.

It sends Last-Modified and an ETag, answers conditional requests and ranges, and does with the paths that ``aimed`` picks what its
``behaviour`` says. Every request is noted with the moment it came.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

BLOCK: Final = 65536
RETRY_AFTER: Final = 30


@dataclass
class Behaviour:
    """What is served, and how.

    Attributes:
        folder: whose files.
        how: ``good``, ``429``, ``503``, ``404``, ``cut`` (half of the announced length), ``cut unannounced`` (half, at the end of
            a line, and no length was told), ``corrupt`` (one byte in the middle), ``drip`` (20 bytes a second), ``stall`` (half,
            then nothing), ``redirect``.
        aimed: which paths it is done to; the others are served well.
        elsewhere: where a redirect leads.
        asked: what was asked for: seconds since the first request, path.
        half: set when half of a file was sent.
    """

    folder: Path
    how: str = "good"
    aimed: Callable[[str], bool] = lambda _: True
    elsewhere: str = ""
    asked: list[tuple[float, str]] = field(default_factory=list)
    half: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        path = self.path.lstrip("/")
        behaviour.asked.append((time.monotonic(), path))
        how = behaviour.how if behaviour.aimed(path) else "good"
        file = behaviour.folder / path
        if how in ("429", "503", "404") or not file.is_file():
            self._plain(int(how) if how in ("429", "503") else 404)
        elif how == "redirect":
            self.send_response(302)
            self.send_header("Location", f"{behaviour.elsewhere}/{path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send(file, how, behaviour)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        if status in (429, 503):
            self.send_header("Retry-After", str(RETRY_AFTER))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, file: Path, how: str, behaviour: Behaviour) -> None:
        data = file.read_bytes()
        changed = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
        tag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        since = self.headers.get("If-Modified-Since")
        if self.headers.get("If-None-Match") == tag or (since and _time(since) >= int(file.stat().st_mtime)):
            self.send_response(304)
            self.end_headers()
            return
        first = 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in (None, tag) and int(asked[1]) < len(data):
            first = int(asked[1])
        if how == "corrupt":
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        body, length = data[first:], len(data) - first
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.send_header("Last-Modified", changed)
        self.send_header("ETag", tag)
        if how == "cut unannounced":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.close_connection = self.close_connection or how != "good"
        if how == "drip":
            self._drip(body, behaviour)
            return
        self.wfile.write(_half(body) if how in ("cut", "cut unannounced", "stall") else body)
        self.wfile.flush()
        behaviour.half.set()
        if how == "stall":
            behaviour.ended.wait()

    def _drip(self, body: bytes, behaviour: Behaviour) -> None:
        for place in range(0, len(body), 20):
            if behaviour.ended.wait(1):
                return
            self.wfile.write(body[place : place + 20])
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nothing: the requests are noted."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    behaviour: Behaviour

    def handle_error(self, *_: object) -> None:
        """Whoever breaks off is no error of ours."""


def _half(body: bytes) -> bytes:
    """A half that ends with a line, where there are lines: what whoever cuts on purpose sends."""
    middle = len(body) // 2
    return body[: body.rfind(b"\n", 0, middle) + 1] or body[:middle]


def _time(text: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except ValueError:
        return 0.0


@contextmanager
def hostile_server(behaviour: Behaviour) -> Iterator[str]:
    """Serves on a free port of the loopback address; ``behaviour`` may be changed between requests."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.behaviour = behaviour
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        behaviour.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
