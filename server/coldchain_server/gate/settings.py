"""``[gate]`` in ``settings.toml``: which engines try a release, and on what.

::

    [gate]
    engines = ["clamav", "yara"]      # every one of these that is installed tries each bundle
    system = ["/usr/bin", "/usr/lib"] # files of this machine in which nothing may be found …
    system_mebibytes = 256            # … of which so much is scanned, each directory in turn having an equal share
    clean = ["/srv/clean"]            # files and directories of yours: nothing may be found in any of them
    must_detect = ["/srv/samples"]    # and in these, in every file, something must be
    eicar = true                      # the EICAR test file, made when the gate runs, must be found too
    seconds = 1800                    # limits of one engine's run: time, and memory in MiB
    mebibytes = 4096
    without = ""                      # why checks that are not run may stay so: a standing --without-gate

What is not run is in the manifest as such, together with the reason, whichever way it was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, cast

from coldchain.engines.interface import EngineKind
from coldchain.errors import UsageError

ENGINES: Final[tuple[EngineKind, ...]] = ("clamav", "yara")
MOST_REASON: Final = 500
_MOST_PATHS: Final = 256

DEFAULT: Final = """\
#
# [gate]                       # what every release is tried on before it is logged: docs/gate.md
# engines = ["clamav", "yara"] # each that is installed; what is not run is public, and so is the reason
# system = ["/usr/bin", "/usr/sbin", "/usr/lib", "/etc"]  # of this machine's own files …
# system_mebibytes = 256       # … so much is scanned, and nothing may be found
# clean = []                   # your own files and directories in which nothing may be found
# must_detect = []             # your own samples, all of which must be found
# eicar = true                 # the EICAR test file must be found
# seconds = 1800               # for one engine's run
# mebibytes = 4096             # of memory for one engine's run
# without = ""                 # a standing reason to go on without what is not run; it is published
"""


@dataclass(frozen=True, slots=True)
class GateSettings:
    """See the module; times in seconds, sizes in MiB."""

    engines: tuple[EngineKind, ...] = ENGINES
    system: tuple[Path, ...] = (Path("/usr/bin"), Path("/usr/sbin"), Path("/usr/lib"), Path("/etc"))
    system_mebibytes: int = 256
    clean: tuple[Path, ...] = ()
    must_detect: tuple[Path, ...] = ()
    eicar: bool = True
    seconds: int = 1800
    mebibytes: int = 4096
    without: str = ""


_NUMBERS: Final = {"system_mebibytes": (0, 1 << 20), "seconds": (1, 86_400), "mebibytes": (64, 1 << 20)}


def gate_settings(table: object) -> GateSettings:
    """The settings of a parsed ``[gate]``, read strictly.

    Raises:
        UsageError: no table, a key that is unknown, or a value that is not as above; the message names the key.
    """
    if not isinstance(table, dict):
        raise UsageError("settings.toml: gate is a table, written [gate]")
    known = sorted(one.name for one in fields(GateSettings))
    if unknown := sorted(set(table) - set(known)):
        raise UsageError(
            f"settings.toml: [gate]: unknown key {str(unknown[0])[:40]!r}", todo="keys are " + ", ".join(known)
        )
    given: Mapping[str, object] = table
    found: dict[str, object] = {}
    for name, value in given.items():
        if name == "engines":
            found[name] = _engines(value)
        elif name in _NUMBERS:
            least, most = _NUMBERS[name]
            if type(value) is not int or not least <= value <= most:
                raise UsageError(f"settings.toml: [gate]: {name} is a number from {least} to {most}")
            found[name] = value
        elif name == "eicar":
            if not isinstance(value, bool):
                raise UsageError("settings.toml: [gate]: eicar is true or false")
            found[name] = value
        elif name == "without":
            found[name] = check_reason(value, "settings.toml: [gate]: without") if value != "" else ""
        else:
            found[name] = _paths(name, value)
    return GateSettings(**found)  # type: ignore[arg-type]  # each was checked by its name


def check_reason(value: object, what: str) -> str:
    """A reason that everybody will read: one line.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_REASON or not value.isprintable():
        raise UsageError(f"{what}: a reason is one line of at most {MOST_REASON} characters")
    return value


def _engines(value: object) -> tuple[EngineKind, ...]:
    if not isinstance(value, list) or not all(one in ENGINES for one in value) or len(set(value)) != len(value):
        raise UsageError(f"settings.toml: [gate]: engines is a list of {' and '.join(ENGINES)}, or empty")
    return tuple(cast(EngineKind, one) for one in value)


def _paths(name: str, value: object) -> tuple[Path, ...]:
    good = isinstance(value, list) and len(value) <= _MOST_PATHS
    if not good or not all(isinstance(one, str) and one.isprintable() and Path(one).is_absolute() for one in value):  # type: ignore[attr-defined]
        raise UsageError(f"settings.toml: [gate]: {name} is a list of at most {_MOST_PATHS} absolute paths")
    return tuple(Path(one) for one in cast(list[str], value))
