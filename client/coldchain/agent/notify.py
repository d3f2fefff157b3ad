"""Telling the service manager how the agent is: systemd's notification protocol, a datagram of lines to a socket.

::

    NOTIFY_SOCKET=/run/systemd/notify      (or @name: a socket in the abstract namespace)

    READY=1\\nSTATUS=release 42, next poll in 58 min
    WATCHDOG=1
    RELOADING=1\\nMONOTONIC_USEC=1234567890
    STOPPING=1

Without a socket in the environment nothing is sent. A manager that does not listen is no reason to fail: protection matters more
than telling about it. The watchdog's ping is owed at half the time that ``WATCHDOG_USEC`` gives, if ``WATCHDOG_PID`` is this process.

Source: ``man 3 sd_notify``, ``man 3 sd_watchdog_enabled``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

MOST_STATUS: Final = 400
_MOST_WATCHDOG_SECONDS: Final = 86_400.0


class Notify:
    """The manager's socket, if there is one.

    Args:
        environment: of the process.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog(environment) if self._address else None
        """Seconds within which a ping is expected; None when none is."""

    def ready(self, status: str) -> None:
        """The agent works (again, after a reload)."""
        self._send("READY=1", _status(status))

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._send(_status(status))

    def reloading(self) -> None:
        """The configuration is being read anew; :meth:`ready` ends that."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The agent ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The watchdog's ping."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)


def _address(text: str) -> str | None:
    """The socket's address as the system wants it; None for none, and for kinds of sockets that are no files (vsock)."""
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return text if text.startswith("/") else None


def _watchdog(environment: Mapping[str, str]) -> float | None:
    text, process = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not text.isascii() or not text.isdigit() or len(text) > 18 or not int(text):
        return None
    if process and process != str(os.getpid()):
        return None
    return min(int(text) / 1e6, _MOST_WATCHDOG_SECONDS)


def _status(text: str) -> str:
    return "STATUS=" + "".join(c if c.isprintable() else " " for c in text)[:MOST_STATUS]
