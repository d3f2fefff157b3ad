"""``edges.toml``: whose batches of reports are counted, here or at an edge that other edges stand behind.

::

    [edges.tokyo-1]
    regions = ["jp"]                   # whose reports it may send on
    token = "5c1f…"                    # SHA-256 of its token: the token itself is nowhere but with the edge
    most_per_hour = 1000000            # reports; more than that in an hour are refused, and wait at the edge

``coldchain-server reports add-edge tokyo-1 --region jp`` writes such a section and prints the token once. To take an edge off the list,
remove its section: from the next request on it is nobody. A token is no signing key: who has it can have reports counted under the
edge's name, and nothing else.
"""

from __future__ import annotations

import hashlib
import secrets
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coldchain.bundle.description import check_token
from coldchain.canonical import is_sha256
from coldchain.errors import MalformedError, StorageError, UsageError
from coldchain_server.storage.durable import write_file

FILE: Final = "edges.toml"
DIRECT: Final = "direct"
"""The sender of reports that endpoints sent here themselves."""
MOST_PER_HOUR: Final = 1_000_000
MOST_EDGES: Final = 4096
_MOST_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class KnownEdge:
    """An edge whose batches are counted: ``token`` is the SHA-256 of its token."""

    name: str
    regions: tuple[str, ...]
    token: str
    most_per_hour: int = MOST_PER_HOUR


def load_edges(text: str) -> dict[str, KnownEdge]:
    """SHA-256 of the token -> edge. Raises UsageError for a file that is not as above."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{FILE}: {error}") from error
    if set(document) - {"edges"} or not isinstance(document.get("edges", {}), dict):
        raise UsageError(f"{FILE}: it holds sections [edges.NAME] and nothing else")
    found: dict[str, KnownEdge] = {}
    for name, table in document.get("edges", {}).items():
        edge = _edge(name, table)
        if edge.token in found:
            raise UsageError(f"{FILE}: {name} and {found[edge.token].name} have one token")
        found[edge.token] = edge
    return found


def _edge(name: str, table: object) -> KnownEdge:
    what = f"{FILE}: [edges.{name}]"
    if not isinstance(table, dict) or set(table) - {"regions", "token", "most_per_hour"}:
        raise UsageError(f"{what}: keys are regions, token, most_per_hour")
    regions, token, most = table.get("regions"), table.get("token"), table.get("most_per_hour", MOST_PER_HOUR)
    if not isinstance(regions, list) or not regions or not all(isinstance(one, str) for one in regions):
        raise UsageError(f"{what}: regions is a list of names")
    if not is_sha256(token):
        raise UsageError(f"{what}: token is the SHA-256 of its token, in lower-case hexadecimal")
    if type(most) is not int or not 1 <= most <= 10**12:
        raise UsageError(f"{what}: most_per_hour is a number from 1 on")
    check_names(name, regions)
    return KnownEdge(name, tuple(regions), str(token), most)


def check_names(name: str, regions: Iterable[str]) -> None:
    """Raises UsageError for a name of an edge or region that is none, or is taken."""
    try:
        for one, what in ((name, "edge"), *((region, "region") for region in regions)):
            check_token(one, what)
    except MalformedError as error:
        raise UsageError(f"{FILE}: {error.what}") from error
    if name == DIRECT:
        raise UsageError(f"{FILE}: {DIRECT!r} is what endpoints are counted under that come without an edge")


def digest_of(token: str) -> str:
    """What the file holds of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()  # a header may hold any byte


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{FILE}: longer than {_MOST_BYTES} bytes")
        return data.decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path.name} cannot be read: {error}") from error


class EdgeList:
    """The file, read anew when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._edges: Mapping[str, KnownEdge] = {}

    def of(self, token: str) -> KnownEdge | None:
        """Whose token this is; None for nobody's.

        Raises:
            UsageError: the file is not in order.
            StorageError: it cannot be read.
        """
        return self.all().get(digest_of(token))

    def all(self) -> Mapping[str, KnownEdge]:
        """Every edge on the list, by the SHA-256 of its token."""
        try:
            state = self._path.stat()
            seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        except FileNotFoundError:
            seen = (0, 0, 0)
        except OSError as error:
            raise StorageError(f"{self._path.name} cannot be read: {error}") from error
        if seen != self._seen:
            self._edges = load_edges(_read(self._path))
            self._seen = seen
        return self._edges

    def add(self, name: str, regions: Sequence[str]) -> str:
        """Adds an edge durably and returns its token, which nothing keeps.

        Raises:
            UsageError: the name is taken or none, or the file is not in order.
            StorageError: the disk refused.
        """
        check_names(name, regions)
        text = _read(self._path)
        if name in {edge.name for edge in load_edges(text).values()}:
            raise UsageError(f"there is an edge {name!r} already", todo=f"remove its section from {FILE} first")
        token = secrets.token_urlsafe(32)
        names = ", ".join(f'"{region}"' for region in regions)
        before = f"{text.rstrip()}\n\n" if text.strip() else ""
        text = f'{before}[edges.{name}]\nregions = [{names}]\ntoken = "{digest_of(token)}"\n'
        if len(load_edges(text)) > MOST_EDGES:
            raise UsageError(f"{FILE}: more than {MOST_EDGES} edges")
        write_file(self._path, text.encode())
        return token
