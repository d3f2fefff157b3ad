"""``[gate]``: read strictly, and what stands as a comment is the default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coldchain.errors import UsageError
from coldchain_server.gate.settings import DEFAULT, GateSettings, gate_settings
from coldchain_server.home import load_settings

GOOD = """
[gate]
engines = ["yara"]
system = ["/usr/bin"]
system_mebibytes = 0
clean = ["/srv/clean", "/srv/more"]
must_detect = []
eicar = false
seconds = 86400
mebibytes = 64
without = "ClamAV is tried on another machine"
"""
BAD: dict[str, list[Any]] = {
    "engines": ["yara", [1], ["yara", "yara"], ["clam"], {}, True],
    "system": ["/usr", ["usr"], [1], ["/a\n"], ["/x"] * 257, {}],
    "system_mebibytes": [-1, (1 << 20) + 1, True, 1.0, "1", []],
    "clean": ["/usr", ["./a"], [None]],
    "must_detect": ["/usr", ["a"], [[]]],
    "eicar": [0, 1, "yes", []],
    "seconds": [0, 86_401, True, "600"],
    "mebibytes": [63, (1 << 20) + 1, False],
    "without": [" ", "a\nb", "x" * 501, 1, [], "\x1b[31m"],
    "unknown": [1],
}


def test_the_default_is_what_the_comments_say() -> None:
    spoken = "\n".join(line.removeprefix("# ") for line in DEFAULT.splitlines()[1:])
    assert load_settings(spoken).gate == load_settings("").gate == GateSettings()


def test_every_key_is_read() -> None:
    assert load_settings(GOOD).gate == GateSettings(
        engines=("yara",),
        system=(Path("/usr/bin"),),
        system_mebibytes=0,
        clean=(Path("/srv/clean"), Path("/srv/more")),
        must_detect=(),
        eicar=False,
        seconds=86400,
        mebibytes=64,
        without="ClamAV is tried on another machine",
    )


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_that_is_none_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"settings\.toml: \[gate\].*{name}"):
        gate_settings({name: value})


def test_no_table_is_refused() -> None:
    values: list[object] = [1, [], "x"]
    for value in values:
        with pytest.raises(UsageError, match="gate is a table"):
            gate_settings(value)
