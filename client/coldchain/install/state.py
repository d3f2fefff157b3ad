"""``state.json``: what an endpoint remembers between runs that nobody signed. Losing it costs a full check, no safety.

Canonical JSON, shown here with line breaks::

    {"bucket":{"release":42,"number":7301},
     "engines":{"clamav":{…}},
     "etag":{"sha256":"<of timestamp.json>","url":"https://a.example","value":"\\"5c1f…\\""},
     "format":"coldchain-state-1","good_until":"2026-06-02T09:00:00Z",
     "last_full":"2026-06-01T12:00:00Z","last_success":"2026-06-01T15:00:00Z",
     "packless":{"since":"2026-06-01T15:00:00Z","url":"https://a.example"},
     "refused_deltas":["<sha256>"]}

``bucket`` is drawn at random once per release and never leaves the endpoint. ``last_full`` is the last full TUF workflow,
``last_success`` the last check of any kind that ended well, and ``good_until`` is when what that check found expires: it answers
while a refresh that was refused half way has left metadata of two ages. ``refused_deltas`` did not apply here and are not tried again.
``packless`` is a server that had no pack where it could have had one.
``engines`` holds for each engine what it was seen to run (:mod:`coldchain.install.engine_memory`).
A file that is missing or damaged counts as empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from coldchain import canonical
from coldchain.canonical import Fields, Object, is_sha256
from coldchain.errors import ColdchainError, MalformedError
from coldchain.install.engine_memory import EngineMemory, parse_memory
from coldchain.verify import BUCKETS

FORMAT = "coldchain-state-1"
MOST_BYTES = 256 * 1024
MOST_REFUSED = 16
MOST_ENGINES = 8
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class EntityTag:
    """The tag ``value`` that the server at ``url`` gave to the timestamp with this ``sha256``."""

    sha256: str
    url: str
    value: str


@dataclass(frozen=True, slots=True)
class Packless:
    """The server at ``url`` had no pack when it was asked for one, at ``since``."""

    url: str
    since: datetime


@dataclass(frozen=True, slots=True)
class State:
    """What the file holds; times are UTC."""

    bucket: tuple[int, int] | None = None
    etag: EntityTag | None = None
    last_full: datetime | None = None
    last_success: datetime | None = None
    good_until: datetime | None = None
    refused_deltas: tuple[str, ...] = ()
    engines: Mapping[str, EngineMemory] = field(default_factory=dict)
    packless: Packless | None = None

    def encode(self) -> bytes:
        """The file's bytes."""
        out: Object = {"format": FORMAT, "refused_deltas": list(self.refused_deltas[-MOST_REFUSED:])}
        if self.bucket:
            out["bucket"] = {"release": self.bucket[0], "number": self.bucket[1]}
        if self.etag:
            out["etag"] = {"sha256": self.etag.sha256, "url": self.etag.url, "value": self.etag.value}
        if self.engines:
            out["engines"] = {name: memory.as_json() for name, memory in self.engines.items()}
        if self.packless:
            out["packless"] = {"url": self.packless.url, "since": self.packless.since.strftime(_TIME)}
        for name in ("last_full", "last_success", "good_until"):
            time: datetime | None = getattr(self, name)
            if time:
                out[name] = time.strftime(_TIME)
        return canonical.encode(out)


def parse_state(data: bytes | None) -> State:
    """The state; an empty one for a file that is not there or not as this program writes it."""
    if data is None:
        return State()
    try:
        return _parse(data)
    except ColdchainError:
        return State()


def _parse(data: bytes) -> State:
    fields = Fields(canonical.read_canonical(data, "state.json"), "state.json")
    fields.constant("format", FORMAT)
    bucket = etag = None
    if fields.has("bucket"):
        part = Fields(fields.object("bucket"), "state.json: bucket")
        bucket = (part.integer("release", least=1), part.integer("number", most=BUCKETS - 1))
        part.done()
    if fields.has("etag"):
        part = Fields(fields.object("etag"), "state.json: etag")
        etag = EntityTag(part.sha256("sha256"), part.text("url"), part.text("value", 128))
        part.done()
    refused = tuple(text for text in fields.items("refused_deltas", MOST_REFUSED) if isinstance(text, str))
    if not all(map(is_sha256, refused)):
        raise MalformedError("state.json: 'refused_deltas' are not digests")
    full, success, until = (
        fields.time(name) if fields.has(name) else None for name in ("last_full", "last_success", "good_until")
    )
    engines: dict[str, EngineMemory] = {}
    if fields.has("engines"):
        engines = {name: parse_memory(one) for name, one in fields.object("engines", MOST_ENGINES).items()}
    packless = None
    if fields.has("packless"):
        part = Fields(fields.object("packless"), "state.json: packless")
        packless = Packless(part.text("url"), part.time("since"))
        part.done()
    state = State(bucket, etag, full, success, until, refused, engines, packless)
    fields.done()
    if state.encode() != data:
        raise MalformedError("state.json: not as this program writes it")
    return state
