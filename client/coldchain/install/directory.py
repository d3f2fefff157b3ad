"""The client's directory: its layout, its configuration and its lock.

::

    coldchain.json         what this endpoint follows (below); written last by ``init``, so it marks a finished one
    metadata/              root, timestamp, snapshot, targets, <region>, rollout (.json): the trusted metadata
    metadata/roots/        N.root.json: the pinned root (the lowest number) and every root after it
    versions/42-<16 hex>/  one installed bundle: its sections and bundle.json, read-only; the digits are its digest's first
    signed/42-<16 hex>     the evidence of that version for an offline verification (a link, switched in one step)
    current, previous      links into versions/: what runs, and what ran before
    state.json             :mod:`coldchain.install.state`
    agent.json, usage.json :mod:`coldchain.install.agent_state`, :mod:`coldchain.agent.allowance`
    sources.json           :mod:`coldchain.install.source_health`
    reports.json           :mod:`coldchain.install.report_memory`
    staging/               work in progress; whatever is here may be deleted while no update runs
    policy                 the customer's own log policy, if there is one (C2SP tlog-policy)
    policy.toml            the customer's own policy: which releases may be applied, and when (:mod:`coldchain.customer_policy`)
    approvals/             approvals of the customer's own security team, put there by whoever has them (:mod:`coldchain.approval`)
    decided.json           :mod:`coldchain.install.decided`
    engines/NAME/          an engine's own view of the installed bundle, where none is configured elsewhere
    lock                   held (flock) by the one process that may change anything
    agent.lock             held by the one agent of the directory, for all its life
    reports.lock           held for moments by whoever changes reports.json, which may be another process than the one that updates

The process that holds the lock holds the directory open too: whatever is renamed or linked around it meanwhile, it writes nowhere
else. An engine is pointed at ``current``. Configuration, canonical JSON, shown with line breaks::

    {"channel":"stable","format":"coldchain-client-1","policy":"root","product":"coldchain","region":"us",
     "root":"<sha256 of the pinned root.json>","urls":["https://a.example","https://b.example/mirror"]}

``policy`` says by whose log policy a release's evidence is judged: ``root`` for the one that the root metadata carries, or the
SHA-256 of the file ``policy``. Without it no evidence is asked for, which ``coldchain init`` never sets up.

A URL is http, https, or the absolute path of a directory that holds a copy of the published tree (``file://`` too).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.canonical import Fields
from coldchain.errors import (
    ColdchainError,
    DamagedError,
    LockedError,
    MalformedError,
    NewerFormatError,
    NotInstalledError,
    StorageError,
    UsageError,
)
from coldchain.install import durable
from coldchain.install.durable import Folder
from coldchain.install.state import MOST_BYTES, State, parse_state

FORMAT = "coldchain-client-1"
CONFIG_BYTES = 64 * 1024
MOST_URLS = 16
ROOT_POLICY = "root"
ENTRIES = frozenset(
    {
        "coldchain.json",
        "metadata",
        "versions",
        "signed",
        "current",
        "previous",
        "state.json",
        "staging",
        "policy",
        "policy.toml",
        "approvals",
        "decided.json",
        "engines",
        "agent.json",
        "usage.json",
        "sources.json",
        "reports.json",
        "reports.lock",
        "lock",
        "agent.lock",
    }
)
# These names are files beside the region's role in metadata/ and signed/.
RESERVED = frozenset({"root", "timestamp", "snapshot", "targets", "rollout", "manifest", "checkpoint", "applied"})


@dataclass(frozen=True, slots=True)
class Config:
    """What this endpoint follows. ``root`` is the pinned root's SHA-256, ``urls`` are tried in their order.

    ``policy`` is :data:`ROOT_POLICY`, the SHA-256 of the customer's own file, or empty: no evidence is asked for.
    """

    product: str
    region: str
    channel: str
    root: str
    urls: tuple[str, ...]
    policy: str = ""

    def encode(self) -> bytes:
        """The bytes of ``coldchain.json``."""
        return canonical.encode(
            {
                "format": FORMAT,
                "product": self.product,
                "region": self.region,
                "channel": self.channel,
                "root": self.root,
                "urls": list(self.urls),
                **({"policy": self.policy} if self.policy else {}),
            }
        )


def parse_config(data: bytes) -> Config:
    """``coldchain.json`` from its bytes.

    Raises:
        MalformedError: not as :meth:`Config.encode` writes it.
        NewerFormatError: a later version of the format.
    """
    fields = Fields(canonical.read_canonical(data, "coldchain.json"), "coldchain.json")
    found = fields.text("format", 64)
    if found != FORMAT and found.startswith("coldchain-client-"):
        raise NewerFormatError(f"coldchain.json has format {found!r}", todo="install a newer client")
    fields.constant("format", FORMAT)
    words = [check_token(fields.text(name), name) for name in ("product", "region", "channel")]
    root = fields.sha256("root")
    urls = tuple(url for url in fields.items("urls", MOST_URLS) if isinstance(url, str))
    policy = fields.text("policy", 64) if fields.has("policy") else ""
    fields.done()
    if fields.has("policy") and policy != ROOT_POLICY and not canonical.is_sha256(policy):
        raise MalformedError("coldchain.json: 'policy' is neither 'root' nor a SHA-256")
    for url in urls:
        if normal_url(url) != url:
            raise MalformedError(f"coldchain.json: {url[:80]!r} is not a base URL")
    config = Config(words[0], check_region(words[1]), words[2], root, urls, policy)
    if not urls or config.encode() != data:
        raise MalformedError("coldchain.json: 'urls' are not base URLs")
    return config


def check_region(region: str) -> str:
    """A region's name, which must not be one that the metadata directory uses otherwise."""
    if check_token(region, "region") in RESERVED:
        raise MalformedError(f"region {region!r}: this name is taken by a file of the metadata")
    return region


def normal_url(url: str) -> str:
    """A base URL in the form it is kept: without a slash at its end; a directory as its absolute path.

    Raises:
        UsageError: neither http, https, file nor a directory, or with a query, a fragment or a password in it.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{url[:200]!r} is not a URL: {error}") from error
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme in ("http", "https"):
        if not host or not plain or parts.query or parts.fragment or "@" in parts.netloc or len(url) > 1024:
            raise UsageError(f"{url[:200]!r} is not a base URL", todo="give it as https://host[:port][/path]")
        return url.rstrip("/")
    if parts.scheme == "file" and not host:
        return normal_url(unquote(parts.path))
    if "://" in url or not url or "\0" in url or len(url) > 1024:
        raise UsageError(f"{url[:200]!r} is neither http, https nor a directory")
    return str(Path(url).absolute())


class ClientDirectory:
    """One endpoint's directory; every path in it has one name here.

    The paths are for readers and messages. Whatever writes goes through :meth:`folder`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = path / "metadata"
        self.roots = self.metadata / "roots"
        self.versions = path / "versions"
        self.signed = path / "signed"
        self.staging = path / "staging"
        self.current = path / "current"
        self.previous = path / "previous"
        self._held: Folder | None = None

    @contextlib.contextmanager
    def folder(self, *names: str) -> Iterator[Folder]:
        """The directory itself, or the one below it that ``names`` lead to, open; no link is followed below it.

        Raises:
            DamagedError: a link or a file stands in the place of a directory.
            StorageError: it is not there, or the disk refused.
        """
        with contextlib.ExitStack() as stack:
            here = self._held or stack.enter_context(durable.open_folder(self.path))
            for name in names:
                here = stack.enter_context(here.folder(name))
            yield here

    def config(self) -> Config:
        """What this endpoint follows.

        Raises:
            NotInstalledError: the directory was never initialised.
            DamagedError: ``coldchain.json`` is not as it was written.
        """
        data = read_file(self.path / "coldchain.json", CONFIG_BYTES)
        todo = f"run `coldchain init {self.path} --root root.json --region REGION --url URL`"
        if data is None:
            raise NotInstalledError(f"{self.path} is not a client directory", todo=todo)
        try:
            return parse_config(data)
        except NewerFormatError:
            raise
        except ColdchainError as error:
            raise DamagedError(
                f"coldchain.json is damaged: {error.what}", kept="what is installed stays in use", todo=todo
            ) from error

    def write_config(self, config: Config) -> None:
        """Writes ``coldchain.json`` durably."""
        with self.folder() as here:
            here.write("coldchain.json", config.encode())

    def state(self) -> State:
        """What the last runs left; empty when that is lost."""
        with self.folder() as here:
            return parse_state(here.read("state.json", MOST_BYTES))

    def write_state(self, state: State) -> None:
        """Writes ``state.json`` durably, if it says anything new."""
        data = state.encode()
        with self.folder() as here:
            if here.read("state.json", MOST_BYTES) != data:
                here.write("state.json", data)

    def make(self) -> None:
        """Makes the directory and those below it.

        Raises:
            UsageError: it holds something that is not ours.
        """
        with durable.disk(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path} is not a directory")
            foreign = sorted(
                one.name
                for one in (self.path.iterdir() if self.path.is_dir() else ())
                if one.name not in ENTRIES and not one.name.startswith(".")
            )
        if foreign:
            raise UsageError(f"{self.path} holds other files ({foreign[0]!r})", todo="give an empty or new directory")
        durable.make_directory(self.path)
        self.complete()

    def complete(self) -> None:
        """Makes the directories below it that are missing."""
        with self.folder() as here:
            for name in ("metadata", "versions", "signed", "staging"):
                here.make(name)
            with here.folder("metadata") as metadata:
                metadata.make("roots")

    def sweep(self) -> None:
        """Removes what a killed process left half-written. Only the holder of the lock may do that."""
        for names in ((), ("metadata",), ("metadata", "roots")):
            with self.folder(*names) as here:
                here.sweep()

    def clean_staging(self, stay: Callable[[str], bool]) -> None:
        """Removes work in progress, but for the names that may stay. Only the holder of the lock may do that."""
        with self.folder("staging") as staging:
            for name in staging.names():
                if not stay(name):
                    staging.remove(name)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the lock. It ends with the process, however that ends.

        Raises:
            LockedError: another process holds it.
            StorageError: the lock file cannot be made.
        """
        with durable.open_folder(self.path) as here, _flock(here, "lock", f"another process is working on {self.path}"):
            self._held = here
            try:
                yield
            finally:
                self._held = None

    def agent_locked(self) -> AbstractContextManager[None]:
        """Holds the place of the directory's one agent, which takes the lock itself only while it updates.

        Raises:
            LockedError: another agent holds it.
            StorageError: the lock file cannot be made.
        """
        return self._holding("agent.lock", f"another agent is running on {self.path}")

    def reports_locked(self) -> AbstractContextManager[None]:
        """Holds ``reports.json``, for a moment.

        Raises:
            LockedError: another process holds it.
            StorageError: the lock file cannot be made.
        """
        return self._holding("reports.lock", f"another process is changing the reports of {self.path}")

    @contextlib.contextmanager
    def _holding(self, name: str, held: str) -> Iterator[None]:
        with durable.open_folder(self.path) as here, _flock(here, name, held):
            yield


@contextlib.contextmanager
def _flock(here: Folder, name: str, held: str) -> Iterator[None]:
    descriptor = here.edit(name)
    try:
        with durable.disk(here.path / name):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    held,
                    kept="nothing was touched",
                    todo="wait for it to end; the lock goes with its process, however that ends",
                ) from error
        yield
    finally:
        os.close(descriptor)


def read_file(path: Path, most: int) -> bytes | None:
    """A regular file of at most ``most`` bytes, not followed through a link; None for anything else."""
    with contextlib.ExitStack() as stack:
        try:
            here = stack.enter_context(durable.open_folder(path.parent))
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                return None
            raise
        return here.read(path.name, most) if path.name not in ("", "..") else None


def urls(given: Sequence[str]) -> tuple[str, ...]:
    """Base URLs as a person gave them, in the form they are kept, each once.

    Raises:
        UsageError: none, too many, or one that is not a base URL.
    """
    out = tuple(dict.fromkeys(map(normal_url, given)))
    if not 0 < len(out) <= MOST_URLS:
        raise UsageError(f"give 1 to {MOST_URLS} base URLs")
    return out
