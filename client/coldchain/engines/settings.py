"""``[[engine]]`` and ``[corpora]`` of the customer's ``policy.toml``: which engines run here, and the files to try a set on.

::

    [[engine]]
    kind = "clamav"                        # clamav or yara: the sections of a bundle that it loads
    name = "clamav"                        # how status and messages call it; the kind, if left out
    socket = "/run/clamav/clamd.ctl"       # where clamd listens; left out: each scan loads the set itself (clamscan)
    program = "/usr/bin/clamscan"          # tries a set before it is loaded; left out: clamscan on the PATH
    view = "/var/lib/clamav/coldchain"     # where the engine finds its set; left out: engines/NAME in the endpoint's directory
    load_seconds = 600                     # limits of the load test: time, and memory in MiB
    load_mebibytes = 4096
    proof_seconds = 300                    # how long a reload may take until the canary is found
    clean = ["/usr/lib/firefox"]           # these add to those of [corpora], for this engine alone
    must_detect = ["/srv/samples"]

    [corpora]
    clean = ["/usr/bin", "/srv/our-product"]     # nothing may be found in these files and directories
    must_detect = ["/srv/samples/eicar.com"]     # and every file of these must be

Without any ``[[engine]]`` a client only keeps the verified set in ``current``, for whatever is pointed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from coldchain.bundle.description import check_token
from coldchain.engines.interface import Corpora, EngineKind
from coldchain.errors import MalformedError, UsageError

FILE_NAME: Final = "policy.toml"
MOST_ENGINES: Final = 8
MOST_PATHS: Final = 256
NONE: Final = Corpora()
_PATH_CHARACTERS: Final = 1024
_NEXT: Final = f"mend {FILE_NAME}; docs/engines.md shows every key"


@dataclass(frozen=True, slots=True)
class OneEngine:
    """One ``[[engine]]``; what is None is found by itself. Times in seconds, ``load_bytes`` in bytes."""

    kind: EngineKind
    name: str
    socket: Path | None = None
    program: Path | None = None
    view: Path | None = None
    load_seconds: int = 600
    load_bytes: int = 4096 << 20
    proof_seconds: int = 300
    corpora: Corpora = NONE


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Every engine of an endpoint, each with the corpora that its sets are tried on. Empty: none is configured."""

    engines: tuple[OneEngine, ...] = ()


def engine_settings(table: Mapping[str, object]) -> EngineSettings:
    """The settings in a parsed ``policy.toml``. Other sections than ``engine`` and ``corpora`` are left to others.

    Args:
        table: the sections, as :mod:`tomllib` gives them (:attr:`coldchain.customer_policy.CustomerPolicy.tables`).

    Raises:
        UsageError: a key that is unknown, missing or of another type than above; the message names section and key.
    """
    part = _Section(table.get("corpora", {}), "[corpora]")
    common = Corpora(part.paths("clean"), part.paths("must_detect"))
    part.done()
    given = table.get("engine", [])
    if not isinstance(given, list) or len(given) > MOST_ENGINES:
        raise UsageError(f"{FILE_NAME}: [[engine]] stands at most {MOST_ENGINES} times, with two brackets", todo=_NEXT)
    engines = tuple(_one(entry, number, common) for number, entry in enumerate(given, 1))
    for what in ("name", "view"):
        seen = [value for one in engines if (value := getattr(one, what)) is not None]
        twice = next((value for value in seen if seen.count(value) > 1), None)
        if twice is not None:
            raise UsageError(f"{FILE_NAME}: [[engine]]: two have the {what} {str(twice)!r}", todo=_NEXT)
    return EngineSettings(engines)


def _one(entry: object, number: int, common: Corpora) -> OneEngine:
    part = _Section(entry, f"[[engine]] number {number}")
    kind = part.text("kind", "")
    if kind not in ("clamav", "yara"):
        raise part.wrong("kind", "is clamav or yara")
    name = part.text("name", kind)
    try:
        check_token(name, "name")
    except MalformedError as error:
        raise part.wrong("name", "is 1 to 32 lower-case letters, digits and dashes, a letter first") from error
    socket = part.path("socket")
    if socket is not None and kind != "clamav":
        raise part.wrong("socket", "is clamd's; a yara engine has none")
    program = part.path("program")
    if program is not None and kind != "clamav":
        raise part.wrong("program", "is clamscan's; yara-x is a part of this program")
    made = OneEngine(
        kind=cast(EngineKind, kind),
        name=name,
        socket=socket,
        program=program,
        view=part.path("view"),
        load_seconds=part.integer("load_seconds", 600, 1, 86_400),
        load_bytes=part.integer("load_mebibytes", 4096, 16, 1 << 20) << 20,
        proof_seconds=part.integer("proof_seconds", 300, 1, 86_400),
        corpora=Corpora((*common.clean, *part.paths("clean")), (*common.must_detect, *part.paths("must_detect"))),
    )
    part.done()
    return made


class _Section:
    """Reads a section's keys by name and type; whatever is of another type, or unknown, is a UsageError."""

    def __init__(self, value: object, where: str) -> None:
        self.where = where
        self._seen: set[str] = set()
        if not isinstance(value, Mapping):
            raise UsageError(f"{FILE_NAME}: {where} is no table", todo=_NEXT)
        self._value = value

    def wrong(self, key: str, words: str) -> UsageError:
        return UsageError(f"{FILE_NAME}: {self.where}: {key!r} {words}", todo=_NEXT)

    def _get(self, key: str, default: object) -> object:
        self._seen.add(key)
        return self._value.get(key, default)

    def text(self, key: str, default: str) -> str:
        value = self._get(key, default)
        if not isinstance(value, str) or len(value) > _PATH_CHARACTERS:
            raise self.wrong(key, "is not a short text")
        return value

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        value = self._get(key, default)
        if type(value) is not int or not least <= value <= most:
            raise self.wrong(key, f"is not a whole number from {least} to {most}")
        return value

    def path(self, key: str) -> Path | None:
        value = self._get(key, None)
        return None if value is None else self._absolute(key, value)

    def paths(self, key: str) -> tuple[Path, ...]:
        value = self._get(key, [])
        if not isinstance(value, list) or len(value) > MOST_PATHS:
            raise self.wrong(key, f"is not a list of at most {MOST_PATHS} paths")
        return tuple(self._absolute(key, one) for one in value)

    def _absolute(self, key: str, value: object) -> Path:
        """Printable, so that it can stand in a line of an engine's answer and of a message."""
        good = isinstance(value, str) and value.isprintable() and len(value) <= _PATH_CHARACTERS
        if not good or not Path(str(value)).is_absolute():
            raise self.wrong(key, "is not an absolute path")
        return Path(str(value))

    def done(self) -> None:
        unknown = sorted(str(key) for key in self._value if key not in self._seen)
        if unknown:
            raise UsageError(f"{FILE_NAME}: {self.where}: unknown key {unknown[0][:40]!r}", todo=_NEXT)
