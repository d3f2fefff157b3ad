"""The service manager hears what systemd's protocol says, on a real socket of either kind; without one nothing happens."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldchain.agent.notify import MOST_STATUS, Notify


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = (
        f"@coldchain-test-{secrets.token_hex(8)}"
        if request.param == "abstract"
        else f"/tmp/{secrets.token_hex(8)}.sock"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:] if name.startswith("@") else name)
        sock.setblocking(False)
        yield sock, name
    if name.startswith("/"):
        Path(name).unlink()


def heard(sock: socket.socket) -> list[str]:
    out = []
    while True:
        try:
            out.append(sock.recv(65536).decode())
        except BlockingIOError:
            return out


def test_every_word(manager: tuple[socket.socket, str]) -> None:
    sock, name = manager
    notify = Notify({"NOTIFY_SOCKET": name})
    notify.ready("release 42")
    notify.status("two\nlines\x1b and €" + "x" * 1000)
    notify.alive()
    notify.reloading()
    notify.stopping()
    ready, status, alive, reloading, stopping = heard(sock)
    assert (ready, alive, stopping) == ("READY=1\nSTATUS=release 42", "WATCHDOG=1", "STOPPING=1")
    assert status.startswith("STATUS=two lines  and €xx")
    assert len(status) == len("STATUS=") + MOST_STATUS
    first, second = reloading.split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_manager_that_does_not_listen_is_no_reason_to_fail(tmp_path: Path) -> None:
    for environment in (
        {},
        {"NOTIFY_SOCKET": ""},
        {"NOTIFY_SOCKET": "@"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"NOTIFY_SOCKET": str(tmp_path / "nobody")},
        {"NOTIFY_SOCKET": "/" + "x" * 300},
    ):
        notify = Notify(environment)
        notify.ready("")
        notify.alive()
    full = Notify({"NOTIFY_SOCKET": (name := f"@coldchain-test-{secrets.token_hex(8)}")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:])
        for _ in range(5000):
            full.alive()  # a manager that does not read blocks nobody


def test_when_a_ping_is_owed() -> None:
    here = {"NOTIFY_SOCKET": "@x"}
    for environment, seconds in (
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "9" * 30}, None),
    ):
        assert Notify(here | environment).watchdog_seconds == seconds
        assert Notify(environment).watchdog_seconds is None
