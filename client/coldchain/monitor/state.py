"""What a monitor remembers between runs: one file, written whole, after the report it follows from is on the disk.

Canonical JSON, shown with line breaks (``…`` for base64 of files)::

    {"alerts":[{"kind":"gap","since":"2026-06-01T09:00:00Z","what":"entry 7: release 9 …"}],
     "channels":{"stable":{"entries":{"42":[[41,"<sha256 of the manifest>"]]},"last":42}},
     "checkpoint":"…","entries":42,"format":"coldchain-monitor-1","metadata":{"root.json":"…","timestamp.json":"…"},
     "pending":[41],"product":"coldchain","root":"<sha256 of the pinned root>","url":"https://coldchain.example",
     "places":{"us":["ch","<sha256 of the entry>"]},
     "waiting":{"one":"2026-06-01T08:00:00Z"}}

``entries`` counts those that were read and judged, ``pending`` are entries whose bundles could not be had and are tried again,
``waiting`` says since when a witness has been behind or silent; ``places``, absent while there are none, to which store the last entry
about a region's reports moved them. A file that is damaged is an error, not an empty state: forgetting what
was seen is what a forked log hopes for.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from coldchain import canonical
from coldchain.canonical import Fields, Object
from coldchain.errors import ColdchainError, DamagedError, MalformedError, NewerFormatError
from coldchain.monitor.entries import Channel
from coldchain.monitor.findings import KINDS
from coldchain.residency import Places
from coldchain.tlog.note import SignedNote, parse_note

FORMAT: Final = "coldchain-monitor-1"
MOST_BYTES: Final = 64 * 1024 * 1024
MOST_ALERTS: Final = 1000
MOST_PENDING: Final = 64
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Standing:
    """A lasting alert that nobody has acknowledged yet."""

    kind: str
    what: str
    since: datetime


@dataclass(slots=True)
class MonitorState:
    """See the module."""

    url: str
    product: str
    root: str
    checkpoint: SignedNote | None = None
    entries: int = 0
    channels: dict[str, Channel] = field(default_factory=dict)
    places: Places = field(default_factory=Places)
    metadata: dict[str, bytes] = field(default_factory=dict)
    pending: list[int] = field(default_factory=list)
    waiting: dict[str, datetime] = field(default_factory=dict)
    alerts: list[Standing] = field(default_factory=list)

    def encode(self) -> bytes:
        """The file's bytes."""
        channels: Object = {
            name: {
                "last": one.last,
                "entries": {
                    str(number): [[index, digest] for index, digest in entries]
                    for number, entries in one.entries.items()
                },
            }
            for name, one in self.channels.items()
        }
        out: Object = {
            "format": FORMAT,
            "url": self.url,
            "product": self.product,
            "root": self.root,
            "entries": self.entries,
            "channels": channels,
            "metadata": {name: _text(data) for name, data in self.metadata.items()},
            "pending": list(self.pending[-MOST_PENDING:]),
            "waiting": {name: time.strftime(_TIME) for name, time in self.waiting.items()},
            "alerts": [
                {"kind": one.kind, "what": one.what, "since": one.since.strftime(_TIME)}
                for one in self.alerts[:MOST_ALERTS]
            ],
        }
        if self.places.stores:
            out["places"] = {region: list(place) for region, place in self.places.stores.items()}
        if self.checkpoint is not None:
            out["checkpoint"] = _text(self.checkpoint.encode())
        return canonical.encode(out)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def parse_state(data: bytes) -> MonitorState:
    """The state.

    Raises:
        DamagedError: it is not as this program writes it.
        NewerFormatError: a later version of the format.
    """
    try:
        return _parse(data)
    except NewerFormatError:
        raise
    except ColdchainError as error:
        raise DamagedError(
            f"the monitor's state is damaged: {error.what}",
            kept="the directory is as it was",
            todo="restore state.json from a backup; without one, move the directory away and begin anew with --root: "
            "what was seen of the log before is then forgotten",
        ) from error


def _parse(data: bytes) -> MonitorState:
    what = "state.json"
    fields = Fields(canonical.read_canonical(data, what), what)
    found = fields.text("format", 64)
    if found != FORMAT and found.startswith("coldchain-monitor-"):
        raise NewerFormatError(f"{what} has format {found!r}", todo="install a newer client")
    fields.constant("format", FORMAT)
    state = MonitorState(fields.text("url"), fields.text("product", 64), fields.sha256("root"))
    if fields.has("checkpoint"):
        state.checkpoint = parse_note(_bytes(fields.text("checkpoint", MOST_BYTES)))
    state.entries = fields.integer("entries")
    for name, value in fields.object("channels").items():
        state.channels[name] = _channel(value)
    if fields.has("places"):
        state.places.stores = {region: _place(value) for region, value in fields.object("places").items()}
    metadata = fields.object("metadata")
    texts = Fields(metadata, f"{what}: metadata")
    state.metadata = {name: _bytes(texts.text(name, MOST_BYTES)) for name in metadata}
    state.pending = [index for index in fields.items("pending", MOST_PENDING) if type(index) is int]
    waiting = fields.object("waiting")
    times = Fields(waiting, f"{what}: waiting")
    state.waiting = {name: _time(times.text(name, 32)) for name in waiting}
    for item in fields.items("alerts", MOST_ALERTS):
        part = Fields(item, f"{what}: alert")
        alert = Standing(part.text("kind", 64), part.text("what", 1 << 20), _time(part.text("since", 32)))
        part.done()
        if alert.kind not in KINDS:
            raise MalformedError(f"{what}: an alert of an unknown kind")
        state.alerts.append(alert)
    fields.done()
    if state.encode() != data:
        raise MalformedError(f"{what}: not as this program writes it")
    return state


def _channel(value: canonical.JSON) -> Channel:
    part = Fields(value, "state.json: channel")
    channel = Channel(part.integer("last"))
    for number, entries in part.object("entries").items():
        if not number.isdecimal() or not isinstance(entries, list):
            raise MalformedError("state.json: a channel's entries")
        for entry in entries:
            if (
                not isinstance(entry, list)
                or len(entry) != 2
                or type(entry[0]) is not int
                or not canonical.is_sha256(entry[1])
            ):
                raise MalformedError("state.json: a channel's entry")
            channel.entries.setdefault(int(number), []).append((entry[0], str(entry[1])))
    part.done()
    return channel


def _place(value: canonical.JSON) -> tuple[str, str]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not isinstance(value[0], str)
        or not canonical.is_sha256(value[1])
    ):
        raise MalformedError("state.json: a place")
    return value[0], str(value[1])


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("state.json: not base64") from error


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise MalformedError("state.json: not a time") from error
