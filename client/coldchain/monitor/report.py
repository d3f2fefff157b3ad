"""A run's report: for a person, as JSON, and as metrics for Prometheus' textfile collector.

::

    # HELP coldchain_monitor_alerts What the last run found, by kind.
    # TYPE coldchain_monitor_alerts gauge
    coldchain_monitor_alerts{kind="fork"} 0
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from coldchain.canonical import Object
from coldchain.errors import AlertError, ColdchainError
from coldchain.monitor.findings import KINDS, Alert
from coldchain.monitor.state import Standing
from coldchain.monitor.witnesses import Held
from coldchain.prometheus import Gauges, labels

_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(slots=True)
class Report:
    """What one run found.

    Attributes:
        url: what is watched.
        time: of the run.
        origin: of the log; empty when there is none yet.
        size: entries under the checkpoint that is believed.
        cosigned: the newest cosignature on the checkpoint (Unix seconds).
        read: entries read in this run.
        checked: releases whose bundles were fetched and compared in this run.
        first: whether it is the first run.
        alerts: found in this run.
        standing: found earlier, and acknowledged by nobody.
        notes: what is worth a line and no alarm.
        witnesses: what they show.
        channels: newest number in the log by channel.
        offered: by region, then channel: the release that its role names.
        versions: of the signed roles.
        root: the pinned root's SHA-256.
    """

    url: str
    time: datetime
    root: str
    origin: str = ""
    size: int = 0
    cosigned: int | None = None
    read: int = 0
    checked: list[str] = field(default_factory=list)
    first: bool = False
    alerts: list[Alert] = field(default_factory=list)
    standing: list[Standing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    witnesses: list[Held] = field(default_factory=list)
    channels: dict[str, int] = field(default_factory=dict)
    offered: dict[str, dict[str, int]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    bytes_down: int = 0

    def as_json(self) -> Object:
        """For ``--json`` and ``report.json``."""
        return {
            "url": self.url,
            "time": self.time.strftime(_TIME),
            "root": self.root,
            "origin": self.origin,
            "size": self.size,
            "cosigned": self.cosigned,
            "entries_read": self.read,
            "releases_checked": list(self.checked),
            "first_run": self.first,
            "alerts": [one.as_json() for one in self.alerts],
            "standing": [
                {"kind": one.kind, "what": one.what, "since": one.since.strftime(_TIME)} for one in self.standing
            ],
            "notes": list(self.notes),
            "witnesses": {
                one.witness: {
                    "size": one.checkpoint.size if one.checkpoint else None,
                    "time": one.time,
                    "problem": one.problem,
                }
                for one in self.witnesses
            },
            "channels": dict(self.channels),
            "offered": {region: dict(found) for region, found in self.offered.items()},
            "versions": dict(self.versions),
            "requests": self.requests,
            "bytes_down": self.bytes_down,
        }

    def text(self) -> str:
        """For a person; proofs in full."""
        lines = [
            f"log       {self.origin or 'none yet'}: {self.size:,} entries, {self.read:,} read in this run"
            + (" (the first)" if self.first else "")
        ]
        for one in self.witnesses:
            seen = f"{one.checkpoint.size:,} entries" if one.checkpoint else one.problem or "nothing of this log"
            lines.append(f"witness   {one.witness}: {seen}")
        for channel, number in self.channels.items():
            offered = sorted({found[channel] for found in self.offered.values() if channel in found})
            names = ", ".join(map(str, offered)) or "none"
            lines.append(f"channel   {channel}: release {number} is the newest in the log, regions offer {names}")
        lines += [f"checked   {text}" for text in self.checked]
        lines += [f"note      {text}" for text in self.notes]
        for alert in self.alerts:
            lines.append(f"ALERT     {alert.kind}: {alert.what}")
            if alert.proof:
                lines += ["", *alert.proof_text.splitlines(), ""]
        lines += [f"STANDING  {one.kind}: {one.what} (since {one.since:%Y-%m-%d %H:%M} UTC)" for one in self.standing]
        if self.error is None:
            lines.append("nothing is wrong that can be seen from here")
        return "\n".join(lines)

    @property
    def error(self) -> AlertError | None:
        """What to end with; None when there is no alert."""
        every = [(one.kind, one.what) for one in self.alerts] + [(one.kind, one.what) for one in self.standing]
        if not every:
            return None
        kind, what = every[0]
        more = f" (and {len(every) - 1} more)" if len(every) > 1 else ""
        return AlertError(
            f"{kind}: {what}{more}",
            kept="the report, and the proof of a fork, lie in the state directory",
            todo=f"this means: {KINDS[kind].meaning}; when it is settled, run once with --acknowledge",
        )


def metrics(report: Report | None, now: datetime, failure: ColdchainError | None = None) -> bytes:
    """The metrics of a run that ended with a report, or (None) that could not be made."""
    gauges = Gauges("coldchain_monitor_")
    gauge = gauges.add
    gauge("last_run_timestamp_seconds", "When the monitor ran last.", [("", int(now.timestamp()))])
    gauge("up", "Whether the last run could read everything it needed.", [("", int(report is not None))])
    code = failure.exit_code if failure else report.error.exit_code if report and report.error else 0
    gauge("exit_code", "How the last run ended; docs/exit-codes.md says what that means.", [("", code)])
    if report is not None:
        found, standing = Counter(one.kind for one in report.alerts), Counter(one.kind for one in report.standing)
        gauge("alerts", "What the last run found, by kind.", [(labels(kind=kind), found[kind]) for kind in KINDS])
        gauge(
            "standing_alerts",
            "Found earlier and acknowledged by nobody, by kind.",
            [(labels(kind=kind), standing[kind]) for kind in KINDS],
        )
        gauge("log_entries", "Entries of the log.", [(labels(origin=report.origin), report.size)])
        if report.cosigned is not None:
            gauge("cosigned_timestamp_seconds", "The newest cosignature on the checkpoint.", [("", report.cosigned)])
        gauge(
            "witness_entries",
            "Entries that a witness holds; -1 when it shows nothing.",
            [(labels(witness=one.witness), one.checkpoint.size if one.checkpoint else -1) for one in report.witnesses],
        )
        gauge(
            "logged_release",
            "The newest release in the log.",
            [(labels(channel=channel), number) for channel, number in report.channels.items()],
        )
        gauge(
            "offered_release",
            "The release that a region's role offers.",
            [
                (labels(region=region, channel=channel), number)
                for region, found_channels in report.offered.items()
                for channel, number in found_channels.items()
            ],
        )
    return gauges.encode()
