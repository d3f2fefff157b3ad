"""clamd's protocol over real sockets: what it answers, and what becomes of answers that are none."""

from __future__ import annotations

import contextlib
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.engines.clamd import Clamd
from coldchain.errors import EngineDownError
from tests.client.agent.publisher import hashes
from tests.client.engines.daemon import EICAR, EICAR_NAME, EICAR_RECORD, daemon, needs_clamd


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[Path, list[bytes]]]:
    """Something at a socket that says this whatever it is asked, and ends the connection (None: says nothing, and stays)."""
    asked: list[bytes] = []
    with tempfile.TemporaryDirectory(prefix="cc-") as name, socket.socket(socket.AF_UNIX) as server:
        path = Path(name, "s")
        server.bind(str(path))
        server.listen()
        done = threading.Event()

        def serve() -> None:
            line, _ = server.accept()
            with line:
                asked.append(line.recv(65536))
                if answer is None:
                    done.wait()
                else:
                    with contextlib.suppress(OSError):
                        line.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path, asked
        finally:
            done.set()
            thread.join()


@needs_clamd
def test_a_real_one() -> None:
    with daemon() as made:
        databases = made.folder / "databases"
        databases.mkdir()
        (databases / "a.hsb").write_bytes(hashes(1))
        (databases / "e.ndb").write_bytes(EICAR_RECORD)
        made.start(databases)
        assert made.client.scan(EICAR) == EICAR_NAME
        assert made.client.scan(b"x" * 100_000) is None
        assert made.client.scan(b"") is None
        made.client.reload()


def test_what_is_sent() -> None:
    with answering(b"stream: OK\0") as (path, asked):
        assert Clamd(path).scan(b"abc") is None
    assert asked == [b"zINSTREAM\0" + struct.pack(">I", 3) + b"abc" + bytes(4)]
    with answering(b"RELOADING\0") as (path, asked):
        Clamd(path).reload()
    assert asked == [b"zRELOAD\0"]


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (b"stream: Acme.Test-1.UNOFFICIAL FOUND\0", "Acme.Test-1"),
        (b"stream: Acme.Test-1 FOUND\0", "Acme.Test-1"),
        (b"stream: a b FOUND FOUND\0", "a b FOUND"),
    ],
)
def test_names(answer: bytes, name: str) -> None:
    with answering(answer) as (path, _):
        assert Clamd(path).scan(b"") == name


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"stream: OK",
        b"stream: Acme FOUND",
        b"\0",
        b"stream: \0",
        b"stream: OKAY\0",
        b"Acme FOUND\0",
        b"stream: Acme FOUND too\0",
        b"INSTREAM size limit exceeded. ERROR\0",
        b"UNKNOWN COMMAND\0",
        b"\xff\xfe\0",
        b"x" * 100_000 + b"\0",
    ],
)
def test_no_verdict_is_no_verdict(answer: bytes) -> None:
    with answering(answer) as (path, _), pytest.raises(EngineDownError):
        Clamd(path).scan(b"")
    with answering(answer) as (path, _), pytest.raises(EngineDownError):
        Clamd(path).reload()


def test_an_answer_that_does_not_come_is_not_waited_for() -> None:
    with answering(None) as (path, _), pytest.raises(EngineDownError, match="timed out"):
        Clamd(path, 0.1).scan(b"")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(EngineDownError, match="does not answer") as found:
        Clamd(tmp_path / "nothing").scan(b"")
    assert "LocalSocket" in found.value.todo
    with pytest.raises(EngineDownError, match="too long"):
        Clamd(tmp_path / ("x" * 200)).reload()
