"""A monitor's directory.

::

    state.json         what it remembers (:mod:`coldchain.monitor.state`); written last
    report.json        the last run's report; written before the state, so a crash in between makes the report again, and loses none
    forks/<16 hex>.txt two signed checkpoints that prove a fork, or that the log went backwards; never removed
    work/              bundles taken apart; whatever is here may be deleted while no monitor runs
    lock               held by the one process that works here
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from coldchain.canonical import Object
from coldchain.errors import DamagedError, UsageError
from coldchain.install import durable
from coldchain.install.directory import ClientDirectory
from coldchain.monitor.findings import Alert
from coldchain.monitor.state import MOST_BYTES, MonitorState, parse_state
from coldchain.monitor.taken_apart import WorkDirectory

_OURS: Final = frozenset({"state.json", "report.json", "forks", "work", "lock"})


class MonitorDirectory(ClientDirectory):
    """See the module; of a client's directory it has the lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.work = WorkDirectory(path / "work")

    def make(self) -> None:
        """Makes what is missing.

        Raises:
            UsageError: it holds something that is not ours.
        """
        with durable.disk(self.path):
            foreign = sorted(
                one.name
                for one in (self.path.iterdir() if self.path.is_dir() else ())
                if one.name not in _OURS and not one.name.startswith(".")
            )
        if foreign:
            raise UsageError(f"{self.path} holds other files ({foreign[0]!r})", todo="give an empty or new directory")
        durable.make_directory(self.path)
        with self.folder() as here:
            here.make("forks")

    def sweep(self) -> None:
        """Removes what a killed process left half-written. Only the holder of the lock may do that."""
        for names in ((), ("forks",)):
            with self.folder(*names) as here:
                here.sweep()

    def begin(self, url: str, product: str, root: bytes | None) -> MonitorState:
        """What the last run left, or a new state that hangs on ``root``.

        Raises:
            UsageError: a first run without a root, or another root or product than before.
            DamagedError: the state is damaged.
        """
        with self.folder() as here:
            there = here.look("state.json") is not None
            data = here.read("state.json", MOST_BYTES)
        if there and data is None:
            raise DamagedError(f"{self.path / 'state.json'} is no file, or too large", todo="restore it from a backup")
        if data is None:
            if root is None:
                raise UsageError(
                    f"{self.path} is new: a first run needs --root FILE", todo="give the publisher's root.json"
                )
            return MonitorState(url, product, hashlib.sha256(root).hexdigest(), metadata={"root.json": root})
        state = parse_state(data)
        if root is not None and hashlib.sha256(root).hexdigest() != state.root:
            raise UsageError(
                f"{self.path} hangs on another root ({state.root[:16]}…) than the one given",
                todo="leave --root out, or take another directory",
            )
        if product != state.product:
            raise UsageError(f"{self.path} watches product {state.product!r}")
        state.url = url
        return state

    def keep_proof(self, alert: Alert) -> Path:
        """Writes an alert's proof durably."""
        text = f"{alert.kind}: {alert.what}\nEach of these is a signed note; together they need nobody's word.\n\n{alert.proof_text}"
        name = f"{hashlib.sha256(alert.proof_text.encode()).hexdigest()[:16]}.txt"
        with self.folder("forks") as forks:
            forks.write(name, text.encode())
        return self.path / "forks" / name

    def write_report(self, report: Object) -> None:
        """Writes the report durably."""
        with self.folder() as here:
            here.write("report.json", json.dumps(report, indent=1, sort_keys=True).encode() + b"\n")

    def write_state(self, state: MonitorState) -> None:  # type: ignore[override]
        """Writes the state durably."""
        with self.folder() as here:
            here.write("state.json", state.encode())
