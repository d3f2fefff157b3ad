"""The origin's directory, and its settings.

::

    HOME/settings.toml     product, channels and how long things are kept (all with defaults; see :class:`Settings`)
    HOME/regions.toml      the regions and their policies
    HOME/rollout.toml      the stages in which releases reach endpoints; may be absent
    HOME/suppressed.toml   signatures left out in every region (`coldchain-server suppress`); may be absent
    HOME/root.json         root version 1, which customers pin
    HOME/keys/             encrypted key files; carry the offline ones away
    HOME/catalogue.sqlite  feeds, snapshots, releases
    HOME/edges.toml        the edges whose batches of outcome reports are counted; may be absent
    HOME/reports/          counted outcome reports, one store for each jurisdiction they stay in
    HOME/residency/        where those stores are, and regions whose reports are being moved
    HOME/content/          files by SHA-256: snapshots' files, sections, descriptions, manifests
    HOME/changes/          change lists between consecutive releases, by channel and region
    HOME/drafts/           releases that are built and not yet published
    HOME/gate/             what releases found in the must-detect corpus, and sections that were in order; may be deleted
    HOME/lint/             earlier results of checks; may be deleted
    HOME/encoded/          by channel, the encoded parts of the last build's bundle files; may be deleted
    HOME/public/           the published tree: what the origin serves, and any other web server could
"""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from coldchain.bundle.description import check_token
from coldchain.errors import MalformedError, StateError, StorageError, UsageError
from coldchain_server.assembly.regions import Regions, load_regions
from coldchain_server.assembly.suppressions import Suppression, load_suppressed, with_suppressed
from coldchain_server.catalogue.interface import Catalogue
from coldchain_server.catalogue.sqlite import SqliteCatalogue
from coldchain_server.gate.settings import DEFAULT as DEFAULT_GATE
from coldchain_server.gate.settings import GateSettings, gate_settings
from coldchain_server.release.schedule import Schedule, load_schedules
from coldchain_server.storage.content import ContentStore
from coldchain_server.storage.directory import DirectoryStorage
from coldchain_server.storage.durable import write_file

_PRODUCT: Final = "coldchain"
_CHANNELS: Final = ("stable", "early")
REGIONS: Final = "regions.toml"
ROLLOUT: Final = "rollout.toml"
SUPPRESSED: Final = "suppressed.toml"
DEFAULT_SETTINGS: Final = (
    """\
# Settings of this origin; what stands here as a comment is the default.
# product = "coldchain"
# channels = ["stable", "early"]
# recent_deltas = 16           # deltas from this many releases before, and from powers of two further back
# keep_generations = 8         # published releases whose files stay after newer ones came
# timestamp_hours = 4          # the timestamp is signed anew this often while the origin serves (it lives 36 hours)
# poll_seconds = 0             # how often endpoints are asked to poll; 0: as they like, which is every hour
# reports_per_network = 100    # outcome reports of endpoints from one network (/24, /48) in an hour; 0: no cap, behind a proxy
# reports_direct_per_hour = 100000   # of all endpoints that report here and not to an edge
# reports_days = 90            # how long counted reports are kept
"""
    + DEFAULT_GATE
)


@dataclass(frozen=True, slots=True)
class Settings:
    """``settings.toml``. Product and channels never change once endpoints follow them."""

    product: str = _PRODUCT
    channels: tuple[str, ...] = _CHANNELS
    recent_deltas: int = 16
    keep_generations: int = 8
    timestamp_hours: int = 4
    poll_seconds: int = 0
    reports_per_network: int = 100
    reports_direct_per_hour: int = 100_000
    reports_days: int = 90
    gate: GateSettings = field(default_factory=GateSettings)


def load_settings(text: str) -> Settings:
    """Reads ``settings.toml`` strictly. Raises UsageError for anything unknown or out of range."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"settings.toml: {error}") from error
    known = {one.name for one in fields(Settings)}
    if unknown := sorted(set(document) - known):
        raise UsageError(f"settings.toml: unknown key {unknown[0]!r}", todo="keys are " + ", ".join(sorted(known)))
    channels = document.get("channels", list(_CHANNELS))
    if not isinstance(channels, list) or len({str(channel) for channel in channels}) != len(channels):
        raise UsageError("settings.toml: channels is a list of different names")
    for token in (document.get("product", _PRODUCT), *channels):
        try:
            check_token(token if isinstance(token, str) else "?", "product or channel")
        except MalformedError as error:
            raise UsageError(f"settings.toml: {error.what}") from error
    gate = gate_settings(document.get("gate", {}))
    settings = Settings(**{**document, "channels": tuple(channels), "gate": gate})
    numbers = {
        "recent_deltas": (1, 256),
        "keep_generations": (1, 1000),
        "timestamp_hours": (1, 24),
        "poll_seconds": (0, 86_400),
        "reports_per_network": (0, 10**6),
        "reports_direct_per_hour": (0, 10**9),
        "reports_days": (1, 3660),
    }
    for name, (least, most) in numbers.items():
        value = getattr(settings, name)
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"settings.toml: {name} is a number from {least} to {most}")
    if not settings.channels:
        raise UsageError("settings.toml: there must be a channel")
    return settings


class Home:
    """Paths below the origin's directory, and what is opened from them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.public = directory / "public"
        self.keys = directory / "keys"
        self.drafts = directory / "drafts"
        self.changes = directory / "changes"
        self.gate = directory / "gate"
        self.lint = directory / "lint"
        self.encoded = directory / "encoded"
        self.residency = directory / "residency"
        self.content = ContentStore(directory / "content")
        self.storage = DirectoryStorage(self.public)

    @property
    def exists(self) -> bool:
        """Whether ``init`` has been here."""
        return (self.directory / "root.json").is_file()

    def require(self) -> None:
        """Raises StateError where ``init`` has not been."""
        if not self.exists:
            raise StateError(
                f"{self.directory} is not an origin's directory",
                todo="coldchain-server init DIR makes one; --home or COLDCHAIN_HOME names it",
            )

    def _text(self, name: str) -> str:
        try:
            return (self.directory / name).read_bytes().decode("utf-8")  # line ends as they are
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{name} cannot be read: {error}") from error

    def pinned_root(self) -> bytes:
        """Root version 1, as customers pin it."""
        try:
            return (self.directory / "root.json").read_bytes()
        except OSError as error:
            raise StorageError(f"root.json cannot be read: {error.strerror}") from error

    def settings(self) -> Settings:
        """The settings, read anew."""
        return load_settings(self._text("settings.toml"))

    def regions_text(self) -> str:
        """The text of regions.toml as it stands."""
        return self._text(REGIONS)

    def write_regions(self, text: str) -> None:
        """Puts another text in the place of regions.toml, durably. Raises StorageError."""
        write_file(self.directory / REGIONS, text.encode())

    def regions(self, text: str | None = None) -> Regions:
        """The regions, read anew (or from ``text``), with what is suppressed left out in each."""
        regions = load_regions(self.regions_text() if text is None else text)
        return with_suppressed(regions, self.suppressed())

    def suppressed(self) -> tuple[Suppression, ...]:
        """The signatures left out in every region, read anew."""
        return load_suppressed(self._text(SUPPRESSED)) if (self.directory / SUPPRESSED).exists() else ()

    def schedules(self) -> dict[str, Schedule]:
        """Channel -> stages of its rollouts, read anew; a channel without any is absent."""
        there = (self.directory / ROLLOUT).exists()
        return load_schedules(self._text(ROLLOUT), self.settings().channels) if there else {}

    def check_channel(self, channel: str) -> None:
        """Raises StateError for a channel that settings.toml does not name."""
        channels = self.settings().channels
        if channel not in channels:
            raise StateError(f"there is no channel {channel!r}", todo="channels are " + ", ".join(channels))

    def draft(self, channel: str, number: int) -> Path:
        """Where the files of a release that is not published yet are."""
        return self.drafts / f"{channel}-{number}"

    def detections(self, channel: str, number: int) -> Path:
        """Where what a release finds in the must-detect corpus is kept."""
        return self.gate / f"{channel}-{number}.json"

    def change_list(self, channel: str, region: str, older: int, newer: int) -> Path:
        """Where the changes between two consecutive published releases are."""
        return self.changes / channel / region / f"{older}-{newer}.cch"

    @asynccontextmanager
    async def catalogue(self) -> AsyncIterator[Catalogue]:
        """The catalogue, open until the block ends."""
        opened = await SqliteCatalogue.open(self.directory / "catalogue.sqlite")
        try:
            yield opened
        finally:
            await opened.close()
