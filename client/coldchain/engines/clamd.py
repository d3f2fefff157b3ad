r"""clamd over its unix socket: one command a connection, each answer read to its end and bounded.

::

    zRELOAD\0                                              ->  RELOADING\0                       begun, not done
    zINSTREAM\0 <length, 4 bytes, big-endian><bytes> 0000  ->  stream: OK\0
                                                               stream: Acme.Test-1.UNOFFICIAL FOUND\0

clamd appends ``.UNOFFICIAL`` to the names of signatures that are not ClamAV's own; it is taken off here. While a reload is under way
clamd answers from the set it had (or, with ``ConcurrentDatabaseReload no``, when the new one is there).

Source: ``man clamd``; tried with ClamAV 1.4.6.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import Final

from coldchain.errors import EngineDownError

UNOFFICIAL: Final = ".UNOFFICIAL"
_ANSWER_BYTES: Final = 4096


class Clamd:
    """The daemon that listens at ``path``; each of its answers may take ``seconds``."""

    def __init__(self, path: Path, seconds: float = 60) -> None:
        self.path, self.seconds = path, seconds

    def reload(self) -> None:
        """Asks for a reload of the databases.

        Raises:
            EngineDownError: it does not answer, or takes no such order (``EnableReloadCommand no``).
        """
        answer = self._ask(b"zRELOAD\0")
        if answer != "RELOADING":
            todo = "set `EnableReloadCommand yes` in clamd.conf"
            raise EngineDownError(f"clamd at {self.path} takes no RELOAD: {answer!r}", todo=todo)

    def scan(self, data: bytes) -> str | None:
        """The name that is found in ``data``, without ``.UNOFFICIAL``; None for nothing.

        Raises:
            EngineDownError: it does not answer, or not with a verdict.
        """
        answer = self._ask(b"zINSTREAM\0", struct.pack(">I", len(data)), data, struct.pack(">I", 0))
        verdict = answer.removeprefix("stream: ")
        if verdict == "OK":
            return None
        name, found, rest = verdict.rpartition(" FOUND")
        if not found or rest or not answer.startswith("stream: "):
            raise EngineDownError(f"clamd at {self.path} gives no verdict: {answer!r}")
        return name.removesuffix(UNOFFICIAL)

    def _ask(self, *parts: bytes) -> str:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(self.seconds)
                line.connect(str(self.path))
                line.sendall(b"".join(parts))
                answer = b""
                while len(answer) <= _ANSWER_BYTES and not answer.endswith(b"\0"):
                    data = line.recv(_ANSWER_BYTES)
                    if not data:
                        break
                    answer += data
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            todo = "start clamd, and see that `LocalSocket` of clamd.conf and `socket` of policy.toml are the same"
            raise EngineDownError(f"clamd does not answer at {self.path}: {words}", todo=todo) from error
        if not answer.endswith(b"\0"):
            raise EngineDownError(f"clamd at {self.path} breaks off its answer")
        return "".join(c if c.isprintable() else "?" for c in answer[:-1].decode("utf-8", "replace"))[:500]
