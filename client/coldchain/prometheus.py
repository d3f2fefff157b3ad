"""Files for Prometheus' textfile collector, written whole.

::

    # HELP coldchain_agent_stale Whether the metadata in force has expired.
    # TYPE coldchain_agent_stale gauge
    coldchain_agent_stale 0

Source: the text format of Prometheus, version 0.0.4.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from coldchain.install import durable


class Gauges:
    """Collects gauges whose names begin with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lines: list[str] = []

    def add(self, name: str, help_: str, values: Iterable[tuple[str, float]]) -> None:
        """One gauge: its values by labels (:func:`labels`, or empty)."""
        full = self._prefix + name
        self._lines += [f"# HELP {full} {help_}", f"# TYPE {full} gauge"]
        self._lines += [f"{full}{labels} {value}" for labels, value in values]

    def encode(self) -> bytes:
        """The file's bytes."""
        return "".join(f"{line}\n" for line in self._lines).encode()


def labels(**named: str) -> str:
    """Labels as a value carries them."""

    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in named.items()) + "}"


def write_metrics(path: Path, data: bytes) -> None:
    """Writes the metrics file whole: a collector sees the old one or the new one.

    Raises:
        StorageError: the disk refused.
    """
    with durable.open_folder(Path(os.path.abspath(path)).parent) as folder:  # noqa: PTH100  no link is resolved
        folder.write(path.name, data)
