"""How far the move of a region's reports has come: a file for each region that is being moved, written before each step's work.

``HOME/residency/moving/us.json``, canonical JSON, shown with line breaks::

    {"entry":"{\\"format\\":\\"coldchain-residency-1\\",…}" or null,
     "final":{"reports":1240,"rows":56,"sha256":"…"} or null,
     "first":17,
     "format":"coldchain-moving-1",
     "from":"us",
     "index":17 or null,
     "old_names":[],
     "region":"us",
     "step":"copying",
     "to":"ch"}

Steps come in this order, and each says what may be found after a crash in it::

    copying    the copy is not whole; nothing is public
    logging    the copy was equal to the original; the entry is made, and from index ``first`` on in the log, or not there yet
    logged     the entry is in the log at ``index``, and a quorum has cosigned it
    switching  the copy is equal to the original as of ``final`` and the original takes nothing more, or both will be so;
               regions.toml names the old store or the new one

Which store counts is said by regions.toml alone. A finished move's file goes to ``HOME/residency/moved/00000017.json``, by its index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.bundle.manifest import MOST_REGIONS
from coldchain.canonical import Fields, Object
from coldchain.errors import MalformedError, StorageError
from coldchain.limits import LIMITS
from coldchain_server.home import REGIONS, Home
from coldchain_server.storage.durable import disk, make_directory, move, sweep, write_file

FORMAT: Final = "coldchain-moving-1"
Step = Literal["copying", "logging", "logged", "switching"]


@dataclass(frozen=True, slots=True)
class Total:
    """What a store keeps of a region: reports, the rows that they are counted in, and the digest of all its lines."""

    reports: int
    rows: int
    sha256: str

    def as_json(self) -> Object:
        """Its members."""
        return {"reports": self.reports, "rows": self.rows, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Moving:
    """A move on its way; see the module."""

    region: str
    old_names: tuple[str, ...]
    source: str
    target: str
    step: Step = "copying"
    entry: bytes | None = None
    first: int = 0
    index: int | None = None
    final: Total | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The region's name, then its old ones."""
        return self.region, *self.old_names

    def encode(self) -> bytes:
        """The file's bytes."""
        return canonical.encode(
            {
                "format": FORMAT,
                "region": self.region,
                "old_names": list(self.old_names),
                "from": self.source,
                "to": self.target,
                "step": self.step,
                "entry": None if self.entry is None else self.entry.decode(),
                "first": self.first,
                "index": self.index,
                "final": self.final.as_json() if self.final else None,
            }
        )


def parse_moving(data: bytes, what: str) -> Moving:
    """A move from its file. Raises MalformedError for anything that :meth:`Moving.encode` does not write."""
    fields = Fields(canonical.read_canonical(data, what), what)
    fields.constant("format", FORMAT)
    step, entry, final = fields.text("step", 16), None, None
    if step not in get_args(Step):
        raise MalformedError(f"{what}: {step!r} is no step")
    document = canonical.read_canonical(data, what)
    if document.get("entry") is not None:
        entry = fields.text("entry", LIMITS.log_entry_bytes).encode()
    if document.get("final") is not None:
        part = Fields(fields.object("final"), f"{what}: final")
        final = Total(part.integer("reports"), part.integer("rows"), part.sha256("sha256"))
    found = Moving(
        check_token(fields.text("region"), "region"),
        tuple(check_token(str(name), "region") for name in fields.items("old_names", MOST_REGIONS)),
        check_token(fields.text("from"), "store"),
        check_token(fields.text("to"), "store"),
        cast(Step, step),
        entry,
        fields.integer("first"),
        fields.integer_or_null("index"),
        final,
    )
    if found.encode() != data:
        raise MalformedError(f"{what}: not as this program writes it")
    return found


def write_moving(home: Home, found: Moving) -> None:
    """Remembers the step, durably. Raises StorageError."""
    path = _path(home, found.region)
    make_directory(path.parent)
    write_file(path, found.encode())


def sweep_moving(home: Home) -> None:
    """Removes what a killed mover left half-written. The caller is the mover."""
    sweep(home.directory / REGIONS)
    for region in {*home.regions().regions, *(one.region for one in all_moving(home))}:
        sweep(_path(home, region))


def finish_moving(home: Home, found: Moving) -> None:
    """Puts a finished move's file where those are. Raises StorageError."""
    assert found.index is not None
    target = home.residency / "moved" / f"{found.index:08}.json"
    make_directory(target.parent)
    move(_path(home, found.region), target)


def forget_moving(home: Home, found: Moving) -> None:
    """Takes a move's file away that is given up. Raises StorageError."""
    with disk(_path(home, found.region)):
        _path(home, found.region).unlink()


def read_moving(home: Home, region: str) -> Moving | None:
    """The move that the region's reports are on, by the name that the region has now; None for none. Raises StorageError."""
    return _read(_path(home, region))


def all_moving(home: Home) -> list[Moving]:
    """Every move on its way. Raises StorageError."""
    return list(_all(home.residency / "moving"))


def all_moved(home: Home) -> list[Moving]:
    """Every finished move, in the log's order. Raises StorageError."""
    return list(_all(home.residency / "moved"))


def explained(home: Home, region: str, configured: str, other: str) -> bool:
    """Whether a move that is on its way put a region's reports into another store than the one that regions.toml names."""
    for one in all_moving(home):
        if region in one.names and (one.source, one.target) == (configured, other):
            return True
        if region in one.names and (one.source, one.target, one.step) == (other, configured, "switching"):
            return True
    return False


def _path(home: Home, region: str) -> Path:
    return home.residency / "moving" / f"{region}.json"


def _all(folder: Path) -> Iterator[Moving]:
    with disk(folder):
        paths = sorted(folder.glob("[a-z0-9]*.json")) if folder.is_dir() else []
    for path in paths:
        found = _read(path)
        if found is not None:  # else it was finished just now
            yield found


def _read(path: Path) -> Moving | None:
    with disk(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        return parse_moving(data, path.name)
    except MalformedError as error:
        raise StorageError(
            f"{path.parent.name}/{path.name} is damaged: {error.what}",
            kept="reports are where they were",
            todo="restore it from a backup of this moment, or ask for help: it says how far a move had come",
        ) from error
