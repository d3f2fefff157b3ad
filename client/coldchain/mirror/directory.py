"""A mirror's directory: the published tree for everybody, and beside it what the mirror itself remembers.

::

    metadata -> .mirror/generations/<16 hex>     the signed roles of one moment, switched in one step
    targets/us/stable/<sha256>.full.ccd …        the files that they name, as at the origin
    manifests/  attestations/  log/              what clients ask for besides: the chain, rebuilders' words, the public log
    packs/us/stable/107.from-41.pack …           for endpoints that poll (:mod:`coldchain.mirror.published`)
    packs/us/stable/latest.pack …                only with --packs (:mod:`coldchain.mirror.packs`)
    .mirror/                                     nobody's business but the mirror's; nothing in it is secret
        mirror.json                              what it follows (below)
        metadata/  policy                        as in an endpoint's directory: what was seen, so that nothing goes backwards
        generations/  staging/  lock
        state.json                               since when files are no longer named (:mod:`coldchain.mirror.state`)

Copied to a file system without links (``cp -rL``, ``rsync -aL``) it serves as well. Configuration, canonical JSON, shown with line
breaks; ``grace`` is in hours::

    {"format":"coldchain-mirror-1","grace":24,"packs":false,"policy":"root","product":"coldchain","regions":["jp","us"],
     "root":"<sha256 of the pinned root.json>","urls":["https://a.example"]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coldchain import canonical
from coldchain.bundle.description import check_token
from coldchain.canonical import Fields
from coldchain.errors import ColdchainError, DamagedError, MalformedError, NewerFormatError, UsageError
from coldchain.install import durable
from coldchain.install.directory import (
    MOST_URLS,
    ROOT_POLICY,
    ClientDirectory,
    Config,
    check_region,
    normal_url,
    read_file,
)

FORMAT: Final = "coldchain-mirror-1"
OWN: Final = ".mirror"
CONFIG: Final = "mirror.json"
METADATA: Final = "metadata"
KEPT: Final = ("targets", "manifests", "attestations", "log", "packs")
"""The folders of the tree whose files come and go one by one; :data:`METADATA` is switched as a whole."""
MOST_REGIONS: Final = 64
MOST_BYTES: Final = 64 * 1024
MOST_GRACE: Final = 24 * 366


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """What a mirror follows.

    Attributes:
        product: the product's name.
        regions: whose files it holds, in the order of their names.
        root: the pinned root's SHA-256.
        urls: the sources, in the order they are asked.
        policy: by whose log policy evidence is judged, as in :class:`coldchain.install.directory.Config`.
        packs: whether it makes packs.
        grace: hours that a file stays after the last generation that named it.
    """

    product: str
    regions: tuple[str, ...]
    root: str
    urls: tuple[str, ...]
    policy: str = ROOT_POLICY
    packs: bool = False
    grace: int = 24

    def of(self, region: str) -> Config:
        """The same as an endpoint of that region has it."""
        return Config(self.product, region, "stable", self.root, self.urls, self.policy)

    def encode(self) -> bytes:
        """The bytes of ``mirror.json``."""
        return canonical.encode(
            {
                "format": FORMAT,
                "product": self.product,
                "regions": list(self.regions),
                "root": self.root,
                "urls": list(self.urls),
                "policy": self.policy,
                "packs": self.packs,
                "grace": self.grace,
            }
        )


def parse_mirror_config(data: bytes) -> MirrorConfig:
    """``mirror.json`` from its bytes.

    Raises:
        MalformedError: not as :meth:`MirrorConfig.encode` writes it.
        NewerFormatError: a later version of the format.
    """
    fields = Fields(canonical.read_canonical(data, CONFIG), CONFIG)
    found = fields.text("format", 64)
    if found != FORMAT and found.startswith("coldchain-mirror-"):
        raise NewerFormatError(f"{CONFIG} has format {found!r}", todo="install a newer client")
    fields.constant("format", FORMAT)
    policy = fields.text("policy", 64)
    config = MirrorConfig(
        product=check_token(fields.text("product"), "product"),
        regions=tuple(check_region(one) for one in fields.items("regions", MOST_REGIONS) if isinstance(one, str)),
        root=fields.sha256("root"),
        urls=tuple(one for one in fields.items("urls", MOST_URLS) if isinstance(one, str)),
        policy=policy,
        packs=fields.boolean("packs"),
        grace=fields.integer("grace", most=MOST_GRACE),
    )
    fields.done()
    if policy != ROOT_POLICY and not canonical.is_sha256(policy):
        raise MalformedError(f"{CONFIG}: 'policy' is neither 'root' nor a SHA-256")
    for url in config.urls:
        if normal_url(url) != url:
            raise MalformedError(f"{CONFIG}: {url[:80]!r} is not a base URL")
    if not config.regions or not config.urls or config.encode() != data:
        raise MalformedError(f"{CONFIG}: not as this program writes it")
    return config


class MirrorDirectory:
    """See the module. ``own`` has the lock, the staging and the memory of an endpoint's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.own = ClientDirectory(path / OWN)

    def config(self) -> MirrorConfig | None:
        """What it follows; None before the first run.

        Raises:
            DamagedError: ``mirror.json`` is not as it was written.
        """
        data = read_file(self.own.path / CONFIG, MOST_BYTES)
        if data is None:
            return None
        try:
            return parse_mirror_config(data)
        except NewerFormatError:
            raise
        except ColdchainError as error:
            raise DamagedError(
                f"{self.own.path / CONFIG} is damaged: {error.what}",
                kept="what the mirror serves stays as it is",
                todo="remove that file and give --root, --region and --url again",
            ) from error

    def write_config(self, config: MirrorConfig) -> None:
        """Writes ``mirror.json`` durably, if it says anything new."""
        data = config.encode()
        with self.own.folder() as here:
            if here.read(CONFIG, MOST_BYTES) != data:
                here.write(CONFIG, data)

    def make(self) -> None:
        """Makes the directory and what is missing below it.

        Raises:
            UsageError: it is no mirror and holds files where a mirror has its own.
        """
        with durable.disk(self.path):
            if self.path.exists() and not self.path.is_dir():
                raise UsageError(f"{self.path} is not a directory")
            taken = [name for name in (METADATA, *KEPT) if (self.path / name).exists()]
            if taken and not self.own.path.exists():
                raise UsageError(
                    f"{self.path} is no mirror, and holds a {taken[0]!r} that one would overwrite",
                    todo="give an empty or new directory",
                )
        durable.make_directory(self.own.path)
        self.complete()

    def complete(self) -> None:
        """Makes the directories below its own that are missing."""
        with self.own.folder() as here:
            for name in (METADATA, "staging", "generations"):
                here.make(name)
            with here.folder(METADATA) as metadata:
                metadata.make("roots")

    def sweep(self) -> None:
        """Removes what a killed process left half-written. Only the holder of the lock may do that."""
        self.own.sweep()
        with durable.open_folder(self.path) as tree:
            tree.sweep()
