"""``coldchain status``: what runs, how fresh it is, and what is known to come. Reads only, asks nobody, trusts no clock but its own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from coldchain.agent.network import network_of
from coldchain.canonical import Object
from coldchain.customer_policy import CustomerPolicy
from coldchain.errors import ColdchainError, UsageError
from coldchain.install import durable, trusted, versions
from coldchain.install.agent_state import AgentState, read_agent_state
from coldchain.install.decided import Decided, read_decided
from coldchain.install.directory import ClientDirectory, Config
from coldchain.install.log_status import LogStatus, log_status
from coldchain.install.policy_file import read_customer_policy
from coldchain.install.report_memory import ReportMemory, read_report_memory
from coldchain.install.state import State
from coldchain.install.versions import Version
from coldchain.limits import LIMITS, Limits
from coldchain.verify import region_release, rollout_state


@dataclass(frozen=True, slots=True)
class Status:
    """The answer.

    Attributes:
        config: what the endpoint follows.
        state: when it last checked.
        version: what runs; None when nothing is installed.
        previous: what ran before, if it is still there.
        damage: what is wrong with the running version at first sight; ``coldchain verify`` looks closely.
        good_until: when the metadata in force expires; None without metadata.
        offered: the newest release known for this region and channel; None when none is known.
        rollout: how far the newest release's rollout is, in words.
        log: what is known of the public log.
        own: the customer's own policy.
        own_problem: why that policy is none; None when it is one.
        decided: what was decided about the newest known release, and why; None when that is not known.
        unapproved: why the approval that the policy asks for is not there for the running release; empty when it is.
        reports: what was reported of updates; empty when nothing was.
        agent: what the agent remembers; empty when none has run.
        now: the time this was asked.
    """

    config: Config
    state: State
    version: Version | None
    previous: Version | None
    damage: str | None
    good_until: datetime | None
    offered: int | None
    rollout: str
    log: LogStatus
    own: CustomerPolicy
    own_problem: UsageError | None
    decided: Decided | None
    unapproved: str
    reports: ReportMemory
    agent: AgentState
    now: datetime

    @property
    def release(self) -> int | None:
        """The release that runs."""
        return self.version.release if self.version else None

    @property
    def stale(self) -> bool:
        """Whether the metadata in force has expired, or there is none."""
        return self.good_until is None or self.good_until <= self.now

    def as_json(self) -> Object:
        """For ``--json``."""
        return {
            "release": self.release,
            "previous": self.previous.release if self.previous else None,
            "product": self.config.product,
            "region": self.config.region,
            "channel": self.config.channel,
            "root": self.config.root,
            "urls": list(self.config.urls),
            "stale": self.stale,
            "good_until": _stamp(self.good_until),
            "last_success": _stamp(self.state.last_success),
            "last_full": _stamp(self.state.last_full),
            "offered": self.offered,
            "rollout": self.rollout,
            "damage": self.damage,
            "log": self.log.as_json(),
            "engines": {name: {**one.as_json(), "release": one.release} for name, one in self.state.engines.items()},
            "policy": {
                "digest": self.own.digest or None,
                "asks": list(self.own.words()),
                "problem": self.own_problem.what if self.own_problem else None,
                "unapproved": self.unapproved or None,
            },
            "decided": self.decided.as_json() if self.decided else None,
            "reports": {"send": self.own.reports, **self.reports.as_json()},
            "agent": self.agent.as_json(self.now),
        }

    def report_lines(self) -> list[str]:
        """Whether outcomes are reported, and every byte of the last report, for a person."""
        last = self.reports.last
        if not self.own.reports and last is None:
            return ["reports      off: nothing is sent"]
        state = "on (policy.toml, [reports])" if self.own.reports else "off now: nothing is sent"
        waiting = f"; {len(self.reports.waiting)} waiting" if self.reports.waiting and self.own.reports else ""
        if last is None:
            return [f"reports      {state}; none was sent yet{waiting}"]
        said = f"the last one, {last.time:%Y-%m-%d %H:%M} UTC to {last.url}, was{waiting}"
        return [f"reports      {state}; {said}", f"             {last.data.decode()}"]

    def decision_lines(self) -> list[str]:
        """The customer's policy and what was decided last, for a person."""
        asks = self.own.words() or ["asks for nothing"]
        if self.own_problem is not None:
            asks = [f"NOT IN ORDER: {self.own_problem.what}"]
        if self.unapproved:
            asks.append(f"NOT APPROVED: {self.unapproved}")
        out = [f"{'' if number else 'own policy':<13}{words}" for number, words in enumerate(asks)]
        if self.decided is None:
            return [*out, "decided      nothing yet"]
        what = f"not to apply release {self.decided.release}" if self.decided.kept_back else self.decided.action
        before = (
            ""
            if self.decided.policy == self.own.digest
            else " (before policy.toml was changed; the next update decides anew)"
        )
        when = f"since {self.decided.since:%Y-%m-%d %H:%M} UTC"
        return [*out, f"decided      {what}, {when}: {self.decided.reason}{before}"]


def _stamp(time: datetime | None) -> str | None:
    return f"{time:%Y-%m-%dT%H:%M:%SZ}" if time else None


def status(directory: ClientDirectory, now: datetime, limits: Limits = LIMITS) -> Status:
    """What the directory holds.

    Raises:
        NotInstalledError: it was never initialised.
        DamagedError: its configuration or its links are damaged.
        StorageError: the disk refused.
    """
    with durable.disk(directory.path):
        return _status(directory, now, limits)


def _status(directory: ClientDirectory, now: datetime, limits: Limits) -> Status:
    config = directory.config()
    version = versions.linked(directory, directory.current)
    before = [one for one in versions.installed(directory) if one != version]
    until = trusted.known_good_until(directory, config, limits)
    offered, rollout = None, "nothing is known yet"
    try:
        kept = trusted.recall(trusted.stored(directory, config, limits), config, limits=limits)
        role = kept.role(config.region)
        offered = region_release(role, config.region, config.channel, product=config.product, limits=limits).release
        state = rollout_state(kept.role("rollout"), config.region, config.channel)
        if state is None:
            rollout = "has not begun"
        else:
            gone = ", ".join(map(str, state.withdrawn))
            rollout = f"release {state.release} to {state.share} % of endpoints{', held' if state.held else ''}"
            rollout += f"; withdrawn: {gone}" if gone else ""
    except ColdchainError as error:
        rollout = error.what
    own, own_problem = CustomerPolicy(), None
    try:
        own = read_customer_policy(directory, limits)
        network_of(own)
    except UsageError as error:
        own_problem = error
    return Status(
        config=config,
        state=directory.state(),
        version=version,
        previous=before[0] if before else None,
        damage=version.glance(limits) if version else None,
        good_until=until,
        offered=offered,
        rollout=rollout,
        log=log_status(directory, config, version, now, limits),
        own=own,
        own_problem=own_problem,
        decided=read_decided(directory),
        unapproved=_unapproved(directory, config, own, version, limits),
        reports=read_report_memory(directory),
        agent=read_agent_state(directory),
        now=now,
    )


def _unapproved(
    directory: ClientDirectory, config: Config, own: CustomerPolicy, version: Version | None, limits: Limits
) -> str:
    """Why the running release's evidence holds no approval as the policy asks for; empty when it does, or none is asked for."""
    if own.approval is None or version is None:
        return ""
    evidence = trusted.read_evidence(directory, version.name, limits)
    try:
        release = trusted.kept_release(directory, config, evidence, limits)
    except ColdchainError as error:
        return error.what
    if (release.release, release.bundle[:16]) != (version.release, version.prefix):
        return "its evidence is about another release"
    return trusted.approval_problem(own, release, evidence, limits)
