"""What an endpoint can say of the public log without asking anyone: where its release stands, and when the log was last vouched for.

::

    public log   entry 41 of coldchain.example/log, which had 42 entries when it was last seen here
    vouched for  2026-06-01 09:00 UTC (3 days before now), by one and two

The second line is the age of the evidence: a witness that cosigned a checkpoint saw the log grow, and only grow, up to then.
Nothing newer is known here. Old is not bad by itself, since a log without new entries needs no new checkpoint; whether the
*release* is still the newest is what the metadata's expiry answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from coldchain.bundle.manifest import parse_manifest
from coldchain.canonical import Object
from coldchain.errors import ColdchainError, EvidenceError, NewerFormatError, StorageError
from coldchain.evidence import refused
from coldchain.install import public_log, trusted
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.rebuilders import check_rebuilders
from coldchain.tlog.offline import VerifiedCheckpoint, verify_checkpoint, verify_proof
from coldchain.tlog.policy import Policy
from coldchain.verify import MANIFEST, PROOF


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The answer.

    Attributes:
        asked: whether this endpoint asks for evidence at all.
        origin: the log's name; None when nothing is known.
        index: the running release's entry; None when it cannot be shown.
        size: entries of the largest checkpoint believed here.
        cosigned: when a witness that counts last vouched for the log; None when none did or none is asked for.
        witnesses: those that vouched, by the policy's names.
        problem: why the running release's evidence is not good; empty when it is, or when nothing runs.
        fork: whether the proof of a fork is kept here.
    """

    asked: bool = True
    origin: str | None = None
    index: int | None = None
    size: int | None = None
    cosigned: datetime | None = None
    witnesses: tuple[str, ...] = ()
    problem: str = ""
    fork: bool = False

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "asked": self.asked,
            "origin": self.origin,
            "index": self.index,
            "size": self.size,
            "cosigned": f"{self.cosigned:%Y-%m-%dT%H:%M:%SZ}" if self.cosigned else None,
            "witnesses": list(self.witnesses),
            "problem": self.problem or None,
            "fork": self.fork,
        }

    def lines(self, now: datetime) -> list[str]:
        """For a person."""
        if not self.asked:
            where, when = "NOT CHECKED: this endpoint asks for no evidence", "nobody"
        elif self.problem:
            where, when = f"NOT SHOWN: {self.problem}", self._vouched(now)
        elif self.index is None:
            where, when = "nothing is known yet", self._vouched(now)
        else:
            where = f"entry {self.index:,} of {self.origin}, which had {self.size:,} entries when it was last seen here"
            when = self._vouched(now)
        out = [f"public log   {where}", f"vouched for  {when}"]
        if self.fork:
            out.append(f"FORKED       the log has told two stories; metadata/{public_log.FORK} proves it")
        return out

    def _vouched(self, now: datetime) -> str:
        if self.cosigned is None:
            return "by no witness"
        return f"{self.cosigned:%Y-%m-%d %H:%M} UTC ({_apart(now - self.cosigned)}), by {', '.join(self.witnesses)}"


def _apart(time: timedelta) -> str:
    hours, side = abs(time) // timedelta(hours=1), "before" if time >= timedelta() else "AFTER"
    number, unit = (hours // 24, "day") if hours >= 48 else (hours, "hour")
    return f"less than an hour {side} now" if not hours else f"{number:,} {unit}{'s' if number != 1 else ''} {side} now"


def log_status(
    directory: ClientDirectory,
    config: Config,
    version: Version | None,
    now: datetime,
    limits: Limits = LIMITS,
) -> LogStatus:
    """What the directory holds.

    Args:
        directory: the endpoint's.
        config: of the endpoint.
        version: what runs; None when nothing does.
        now: cosignatures from after it do not count.
        limits: bounds.

    Raises:
        StorageError: the disk refused.
    """
    with directory.folder("metadata") as folder:
        fork = folder.look(public_log.FORK) is not None
    try:
        policy = public_log.policy_in_force(directory, config, trusted.newest_root(directory, config, limits), limits)
    except StorageError:
        raise
    except ColdchainError as error:
        return LogStatus(problem=error.what, fork=fork)
    if policy is None:
        return LogStatus(asked=False, fork=fork)
    heads: list[VerifiedCheckpoint] = []
    index, problem = None, ""
    if version is not None:
        try:
            index, head = _entry(directory, config, version, policy, now, limits)
            heads.append(head)
        except (EvidenceError, NewerFormatError) as error:
            problem = error.what
    origin = heads[0].checkpoint.origin if heads else None
    seen = public_log.seen_checkpoint(directory, policy, origin, limits)
    if seen is not None:
        try:
            heads.append(verify_checkpoint(seen.note, policy, now, limits))
        except ColdchainError as error:
            problem = problem or f"the checkpoint seen last: {error.what}"
    newest = max(heads, key=lambda one: one.newest or 0, default=None)
    return LogStatus(
        origin=origin or (seen.checkpoint.origin if seen else None),
        index=index,
        size=max((one.checkpoint.size for one in heads), default=None),
        cosigned=datetime.fromtimestamp(newest.newest, UTC) if newest and newest.newest is not None else None,
        witnesses=tuple(sorted(newest.verdict.counted)) if newest else (),
        problem=problem,
        fork=fork,
    )


def _entry(
    directory: ClientDirectory, config: Config, version: Version, policy: Policy, now: datetime, limits: Limits
) -> tuple[int, VerifiedCheckpoint]:
    """Where the manifest kept with a version stands, if it is about that version."""
    kept = trusted.read_evidence(directory, version.name, limits)
    data = kept.get(MANIFEST)
    if data is None or PROOF not in kept:
        raise EvidenceError(f"release {version.release} is kept without its manifest or its proof of the log")
    with refused(f"release {version.release}"):
        manifest = parse_manifest(data, limits)
        region = manifest.regions.get(config.region)
        if (manifest.product, manifest.channel, manifest.release) != (config.product, config.channel, version.release):
            raise EvidenceError("the manifest that is kept is about another release")
        if region is None or region.facts.bundle[:16] != version.prefix:
            raise EvidenceError("the manifest that is kept names another bundle")
        found = verify_proof(data, kept[PROOF], policy, now, limits)
        if policy.rebuilds_asked:
            check_rebuilders(policy, manifest, config.region, kept, limits)
    return found.index, found.head
