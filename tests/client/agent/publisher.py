"""A publisher of real releases: bundles encoded by the server's codec, signed roles, manifests; served over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from coldchain.agent.outcome import Outcome
from coldchain.agent.update import Settings, update
from coldchain.bundle.canary import canary_section
from coldchain.bundle.description import BundleDescription, Engine, Kind, Section
from coldchain.bundle.evidence_file import encode_evidence, read_evidence_file
from coldchain.bundle.manifest import BundleFacts, FeedFacts, FileFacts, Manifest, Policy, RegionFacts
from coldchain.install import trusted
from coldchain.install.directory import ROOT_POLICY, ClientDirectory, Config
from coldchain.published_packs import Packs, published_packs
from coldchain.tuf.refresh import Fetch, refresh
from coldchain.verify import EVIDENCE
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encode import encode_delta
from coldchain_server.web.origin import running
from tests.client.tlog.memory_log import MemoryLog
from tests.client.tuf.repository import Repository, digest, sign
from tests.server.web.published import MemoryStorage

T = TypeVar("T")
Contents = Mapping[str, bytes]
_ENCODED: dict[tuple[str | None, str], bytes] = {}
"""By bundle digests: the same bundles give the same bytes, and encoding them is the slow part of a test."""


def kind_of(name: str) -> tuple[Kind, Engine]:
    return ("file", "yara") if name.endswith(".yar") else ("set", "list" if name.endswith(".list") else "clamav")


@dataclass
class Publisher:
    """``files`` is the published tree. Releases go to every region alike.

    With ``packs``, they are made as an origin makes them. With a ``log``, every manifest is logged before it is signed, and the root
    carries the log's policy. With ``named_files`` manifests name the full bundles' files, as an origin's do.
    """

    folder: Path
    regions: tuple[str, ...] = ("us", "jp")
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    policy: tuple[Policy, ...] = ()
    feeds: tuple[FeedFacts, ...] = ()
    named_files: bool = False
    packs: bool = False
    log: MemoryLog | None = None
    previous: str | None = None
    releases: dict[str, dict[int, BundleDescription]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.repository = Repository(regions=self.regions, now=self.now)
        if self.log is not None:
            self.repository.root["coldchain"] = {
                "format": "coldchain-root-1",
                "log_policy": self.log.policy.splitlines(),
            }
            self.repository.files["metadata/1.root.json"] = sign(self.repository.root, self.repository.signers["root"])
        self.content = self.folder / "content"
        self.content.mkdir(parents=True)

    @property
    def files(self) -> dict[str, bytes]:
        return self.repository.files

    def store(self, data: bytes) -> Path:
        path = self.content / digest(data)
        path.write_bytes(data)
        return path

    def find(self, sha256: str) -> Path:
        return self.content / sha256

    def describe(self, region: str, release: int, contents: Contents) -> BundleDescription:
        every = dict(contents)
        for engine in sorted({kind_of(name)[1] for name in contents}):
            made = canary_section(engine, "coldchain", region, "stable", release)
            if made:
                every[made[0]] = made[1]
        sections = []
        for name, data in sorted(every.items()):
            kind, engine = kind_of(name)
            self.store(data)
            sections.append(Section(name, kind, engine, data.count(b"\n"), len(data), digest(data)))
        return BundleDescription("coldchain", region, "stable", release, tuple(sections))

    def encode(self, old: BundleDescription | None, new: BundleDescription) -> bytes:
        key = (old.digest if old else None, new.digest)
        if key not in _ENCODED:
            out = io.BytesIO()
            encode_delta(diff_bundles(old, new, self.find), self.find, out)
            _ENCODED[key] = out.getvalue()
        return _ENCODED[key]

    def file_facts(self, new: BundleDescription) -> FileFacts | None:
        """What the manifest says of the full bundle's file."""
        full = self.encode(None, new) if self.named_files else b""
        return FileFacts(len(full), digest(full)) if self.named_files else None

    def publish(
        self,
        release: int,
        contents: Contents,
        *,
        share: int = 100,
        held: bool = False,
        withdrawn: Sequence[int] = (),
    ) -> None:
        """A release for every region, with deltas from every earlier one."""
        described = {region: self.describe(region, release, contents) for region in self.regions}
        facts = {
            region: RegionFacts(
                BundleFacts(one.digest, one.total_bytes, one.total_records), self.policy, self.file_facts(one)
            )
            for region, one in described.items()
        }
        whole = BundleFacts(digest(b"global"), 1, 1)
        manifest = Manifest(
            "coldchain", "stable", release, self.previous, "2026-06-01T09:00:00Z", whole, facts, self.feeds, "0.1.0"
        ).encode()
        self.previous = digest(manifest)
        proof = self.logged(manifest)
        for region, new in described.items():
            earlier = self.releases.setdefault(region, {})
            targets = {"full.ccd": self.encode(None, new), EVIDENCE: encode_evidence(manifest, proof)}
            targets |= {f"from-{number}.ccd": self.encode(old, new) for number, old in earlier.items()}
            self.sign(region, new, targets)
            earlier[release] = new
        self.repository.set_rollout(release, share, held=held, withdrawn=withdrawn)
        self.republish(*self.regions, "rollout")

    def republish(self, *roles: str) -> None:
        """These roles anew, with a snapshot, its packs and a timestamp."""
        self.repository.publish(*roles)
        if self.packs:
            for path in [path for path in self.files if path.startswith("packs/")]:
                del self.files[path]
            for pack in self.made().made:
                self.files[pack.path] = pack.head + (self.files[pack.content] if pack.content else b"")

    def made(self) -> Packs:
        """The packs of what is published now."""
        steps = refresh({"root.json": self.repository.pinned}, self.now, [*self.regions, "rollout"])
        return self._driven(published_packs(self._driven(steps), self.regions, "coldchain"))

    def _driven(self, steps: Generator[Any, bytes | None, T]) -> T:
        data: bytes | None = None
        while True:
            try:
                step = steps.send(data)
            except StopIteration as done:
                found: T = done.value
                return found
            data = self.files.get(step.path) if isinstance(step, Fetch) else None

    def logged(self, manifest: bytes) -> bytes | None:
        """The proof of a manifest that goes into the log; None without a log."""
        self.files[f"manifests/{digest(manifest)}.json"] = manifest
        if self.log is None:
            return None
        proof = self.log.proof(self.log.append(manifest), at=self.now)
        self.files.update({f"log/{path}": data for path, data in self.log.files.items()})
        return proof

    def sign(self, region: str, new: BundleDescription, targets: Mapping[str, bytes]) -> None:
        """Puts the targets into the tree and into the region's document; the role is not yet published."""
        document = self.repository.documents[region]
        document["coldchain"]["channels"]["stable"] = {
            "release": new.release,
            "bundle": new.digest,
            "bytes": new.total_bytes,
            "records": new.total_records,
            "manifest": digest(read_evidence_file(targets[EVIDENCE])[0]),
        }
        document["targets"] = {}
        for name, data in targets.items():
            document["targets"][f"{region}/stable/{name}"] = {"length": len(data), "hashes": {"sha256": digest(data)}}
            self.files[self.path(data, name, region)] = data

    def path(self, data: bytes, name: str, region: str = "us") -> str:
        return f"targets/{region}/stable/{digest(data)}.{name}"

    def name_evidence(self, manifest: bytes, proof: bytes | None, region: str = "us") -> None:
        """Puts this evidence into the tree and into the region's document; the role is not yet published."""
        data, document = encode_evidence(manifest, proof), self.repository.documents[region]
        document["targets"][f"{region}/stable/{EVIDENCE}"] = {"length": len(data), "hashes": {"sha256": digest(data)}}
        document["coldchain"]["channels"]["stable"]["manifest"] = digest(manifest)
        self.files[self.path(data, EVIDENCE, region)] = data

    def manifest(self, region: str = "us") -> bytes:
        """The manifest that the region's role names now."""
        return read_evidence_file(self.files[self.target(EVIDENCE, region)])[0]

    def proof(self, region: str = "us") -> bytes:
        """The proof that the region's role names now."""
        proof = read_evidence_file(self.files[self.target(EVIDENCE, region)])[1]
        assert proof is not None
        return proof

    def target(self, name: str, region: str = "us") -> str:
        """Where the newest target of that name is published."""
        info = self.repository.documents[region]["targets"][f"{region}/stable/{name}"]
        return f"targets/{region}/stable/{info['hashes']['sha256']}.{name}"

    def client(self, path: Path, *urls: str, region: str = "us") -> ClientDirectory:
        """A directory as ``coldchain init`` makes it."""
        directory = ClientDirectory(path)
        directory.make()
        pinned = self.repository.pinned
        trusted.pin(directory, pinned)
        named = ROOT_POLICY if self.log is not None else ""
        directory.write_config(Config("coldchain", region, "stable", hashlib.sha256(pinned).hexdigest(), urls, named))
        return directory

    def write(self, folder: Path) -> Path:
        """The published tree as files."""
        for name, data in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    @contextlib.asynccontextmanager
    async def origin(self) -> AsyncIterator[str]:
        """The real origin over the tree."""
        async with running(MemoryStorage(self.files)) as origin:
            yield origin.url


def hashes(*numbers: int) -> bytes:
    """A hash database of one made-up record for each number."""
    lines = [f"{digest(str(n).encode())}:{1000 + n}:Win.Trojan.Agent-{n}-0" for n in numbers]
    return "".join(f"{line}\n" for line in sorted(lines)).encode()


FIRST: dict[str, bytes] = {
    "daily.hsb": hashes(*range(400)),
    "main.hsb": hashes(*range(1000, 1400)),
    "rules.yar": b"rule A { condition: true }\nrule B { condition: false }\n",
}
SECOND = FIRST | {
    "daily.hsb": hashes(*range(5, 410)),
    "rules.yar": b"rule A { condition: true }\nrule C { condition: false }\n",
}
THIRD = SECOND | {"daily.hsb": hashes(*range(9, 420))}

Lie = Callable[[web.Request, bytes], "web.StreamResponse | bytes | None"]


@dataclass
class Edge:
    """A server over the tree that may lie: ``lie`` returns other bytes, a whole response, or None for the truth."""

    files: Mapping[str, bytes]
    lie: Lie = lambda _request, _data: None
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.lstrip("/")
        self.log.append((path, {name.lower(): value for name, value in request.headers.items()}))
        data = self.files.get(path)
        if data is None:
            return web.Response(status=404)
        told = self.lie(request, data)
        if isinstance(told, web.StreamResponse):
            return told
        return web.Response(body=data if told is None else told)

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.log]


@contextlib.asynccontextmanager
async def serving(edge: Edge) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", edge.handle)
    runner = web.AppRunner(app, access_log=None, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    edge.url = f"http://127.0.0.1:{port}"
    try:
        yield edge.url
    finally:
        await runner.cleanup()


@dataclass
class Meter:
    """Counts the bytes that cross a connection, in both directions."""

    up: int = 0
    down: int = 0
    sent: bytes = b""


@contextlib.asynccontextmanager
async def metered(url: str) -> AsyncIterator[tuple[str, Meter]]:
    """A relay on a socket of its own before the server at ``url``."""
    meter = Meter()
    port = int(url.rsplit(":", 1)[1])

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, up: bool) -> None:
            while data := await source.read(65536):
                if up:
                    meter.up += len(data)
                    meter.sent += data
                else:
                    meter.down += len(data)
                sink.write(data)
                await sink.drain()
            sink.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(pump(reader, forth, True), pump(back, writer, False))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", meter
    finally:
        server.close()


def installed(directory: ClientDirectory) -> dict[str, bytes]:
    """What an engine that is pointed at ``current`` would load."""
    if not directory.current.exists():
        return {}
    return {one.name: one.read_bytes() for one in sorted(directory.current.iterdir()) if one.name != "bundle.json"}


async def run(directory: ClientDirectory, *urls: str, **options: object) -> Outcome:
    return await update(directory, Settings(urls=urls or None, **options))  # type: ignore[arg-type]
