"""Whom a customer believes: which logs, which witnesses, and how many of them. C2SP tlog-policy, with dates and jurisdictions.

::

    # what every reader of C2SP policy files understands:
    log log.example/test+a7468cf6+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop https://log.example/test
    witness one wit.example/one+95e309a5+BIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c https://wit.example/one
    witness two ...
    witness three ...
    group abroad any two three                       all, any, or a number; members defined above, each used once
    group quorum-1 all one abroad
    quorum quorum-1                                  exactly one; "quorum none" asks for no witness

    # what only this project understands, and others skip as comments:
    # coldchain: witness one jurisdiction=ch
    # coldchain: witness two jurisdiction=jp from=2026-01-01 until=2027-01-01
    # coldchain: witness three jurisdiction=jp
    # coldchain: jurisdictions 2
    # coldchain: rebuilder alice 8139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394
    # coldchain: rebuilders 1

The second part only ever takes away. A witness with dates counts for the cosignatures it made (by the time it signed into them)
from the first day, 00:00 UTC, up to but not including the last. ``jurisdictions K`` asks that the witnesses that count, among
those the quorum is made of, come from at least K jurisdictions; a witness without one adds none. So a reader that skips these
lines accepts all that this one accepts, and more. Quorums that name jurisdictions (two in Japan and one elsewhere) need no
extension: they are groups. ``rebuilders K`` asks that K of the rebuilders, each named with its Ed25519 key in hexadecimal, have
assembled the release again and signed that (:mod:`coldchain.rebuilders`); names of rebuilders are their own, a witness may have the
same one. Rebuilders without that line, or the line without as many of them, are refused.

A customer may ask for more than a policy does, whoever wrote it (:class:`Demands`, from the customer's ``policy.toml``): what then
counts must satisfy both. That stands beside the policy and is no part of its file.

Dates retire a witness in good order: releases of its days stay verifiable for ever. They are no help when its key is stolen,
since the thief writes the time too; then its line is taken out. Likewise a cosignature more than a day ahead of
this machine's clock does not count.

Strict, since a mistake here is one nobody notices: every word of a line must be understood, also after ``# coldchain:``; one
public key stands once in the file, under whatever names (one key would be two witnesses); a file without a log is refused (some
readers take it as "any log"). Words are parted by spaces and tabs; UTF-8, of which names are compared byte by byte. A log or
witness with a key of an unknown kind may be listed: it never counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from typing import Final

from coldchain.errors import EvidenceError, MalformedError
from coldchain.keys import PublicKey
from coldchain.limits import LIMITS, Limits
from coldchain.tlog.vkey import Kind, NoteKey, parse_vkey

MOST_WORDS: Final = 1000  # of a message: groups of groups would repeat each other's members
NONE: Final = "none"
EXTENSION: Final = "coldchain:"
NOT_YET: Final = "it signed at a time this machine's clock has not reached"

_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANKS = re.compile(r"[ \t]+")
_OURS = re.compile(r"#[# ]*coldchain ?:", re.IGNORECASE)
_COUNT = re.compile(r"[1-9][0-9]{0,5}\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_KEY = re.compile(r"[0-9a-f]{64}\Z")
_JURISDICTION = re.compile(r"[a-z][a-z0-9-]{0,31}\Z")


@dataclass(frozen=True, slots=True)
class Log:
    """A log line. ``key`` is None for a key of an unknown kind."""

    vkey: str
    key: NoteKey | None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Witness:
    """A witness line and what the extension says of it. ``since`` is the first day, ``until`` the day after the last."""

    name: str
    vkey: str
    key: NoteKey | None
    url: str = ""
    jurisdiction: str = ""
    since: date | None = None
    until: date | None = None

    def why_not(self, cosigned: int | None, now: datetime, ahead: int) -> str:
        """Why a cosignature of that time (None: there is none) does not count; empty if it does."""
        if self.key is None:
            return "its key is of a kind this client does not know"
        if cosigned is None:
            return "no cosignature"
        if self.since and cosigned < _midnight(self.since):
            return f"it signed before its first day, {self.since}"
        if self.until and cosigned >= _midnight(self.until):
            return f"it signed when its days were over, on or after {self.until}"
        if cosigned > now.timestamp() + ahead:
            return NOT_YET
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """At least ``least`` of ``members`` must have cosigned."""

    name: str
    least: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a policy makes of cosignatures.

    Attributes:
        counted: the witnesses that count, with the time they signed (Unix seconds).
        uncounted: the others, and why.
        lacking: what is missing to the quorum, in words; empty when nothing is.
    """

    counted: Mapping[str, int]
    uncounted: Mapping[str, str]
    lacking: str

    @property
    def satisfied(self) -> bool:
        """Whether the quorum is there."""
        return not self.lacking


@dataclass(frozen=True, slots=True)
class Demands:
    """What a customer asks for on top of a policy. It only ever takes away; the numbers ask for nothing when they are 0.

    Attributes:
        witnesses: how many of all witnesses that the policy lists must count, in its quorum or not.
        jurisdictions: from how many jurisdictions the witnesses that count must come.
        rebuilds: how many rebuilders must have assembled the release again.
        rebuilders: the customer's own ones, of whom those must be; when there are none, the policy's.
    """

    witnesses: int = 0
    jurisdictions: int = 0
    rebuilds: int = 0
    rebuilders: Mapping[str, PublicKey] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy file. ``quorum`` is the name of a witness or group, or :data:`NONE`; the numbers ask for none when they are 0.

    ``demands`` is no part of the file: what a customer asks for on top.
    """

    logs: tuple[Log, ...]
    witnesses: Mapping[str, Witness]
    groups: Mapping[str, Group]
    quorum: str
    jurisdictions: int = 0
    rebuilders: Mapping[str, PublicKey] = field(default_factory=dict)
    rebuilds: int = 0
    demands: Demands = Demands()

    @property
    def log_keys(self) -> list[NoteKey]:
        """The keys a log may sign with; the name of each is the log's origin."""
        return [log.key for log in self.logs if log.key]

    @property
    def witness_keys(self) -> dict[NoteKey, Witness]:
        """The witnesses by key."""
        return {witness.key: witness for witness in self.witnesses.values() if witness.key}

    def evaluate(self, cosigned: Mapping[str, int], now: datetime, limits: Limits = LIMITS) -> Verdict:
        """Whether verified cosignatures are enough.

        Args:
            cosigned: the names of witnesses (as in this file) with good cosignatures, and their times in Unix seconds.
            now: the present time, with a time zone.
            limits: how far a witness's clock may be ahead.
        """
        counted, uncounted = {}, {}
        for name, witness in self.witnesses.items():
            signed = cosigned.get(name)
            reason = witness.why_not(signed, now, limits.cosignature_ahead_seconds)
            if signed is None or reason:
                uncounted[name] = reason
            else:
                counted[name] = signed
        lacking = "" if self.quorum == NONE else self._lacking(counted, uncounted)
        return Verdict(counted, uncounted, lacking or self._demanded(counted))

    def _demanded(self, counted: Mapping[str, int]) -> str:
        """What is missing to the customer's own demands; empty when nothing is."""
        asked = self.demands
        if len(counted) < asked.witnesses:
            listed = f"the log policy lists {len(self.witnesses)}"
            return f"{len(counted)} of {asked.witnesses} witnesses that your own policy asks for ({listed})"
        found = {self.witnesses[name].jurisdiction for name in counted} - {""}
        if len(found) < asked.jurisdictions:
            known = ", ".join(sorted(found)) or "none"
            return f"{len(found)} of {asked.jurisdictions} jurisdictions that your own policy asks for ({known})"
        return ""

    @property
    def rebuilds_asked(self) -> list[tuple[Mapping[str, PublicKey], int]]:
        """Rebuilders, and how many of them must have rebuilt a release: the policy's own and the customer's demand."""
        asked = [(self.rebuilders, self.rebuilds), (self.demands.rebuilders or self.rebuilders, self.demands.rebuilds)]
        return [(names, least) for names, least in asked if least]

    def _lacking(self, counted: Mapping[str, int], uncounted: Mapping[str, str]) -> str:
        missing: dict[str, str] = {name: f"{name}: {reason}" for name, reason in uncounted.items()}
        for group in self.groups.values():  # in the file's order, so members come before their groups
            lost = [missing[member] for member in group.members if member in missing]
            if len(group.members) - len(lost) < group.least:
                have = len(group.members) - len(lost)
                missing[group.name] = f"{group.name}: {have} of {group.least} needed ({'; '.join(lost)[:MOST_WORDS]})"
        if self.quorum in missing:
            return missing[self.quorum]
        found = {self.witnesses[name].jurisdiction for name in self.witnesses_of(self.quorum) if name in counted} - {""}
        if len(found) < self.jurisdictions:
            return f"{len(found)} of {self.jurisdictions} needed jurisdictions ({', '.join(sorted(found)) or 'none'})"
        return ""

    def witnesses_of(self, name: str) -> list[str]:
        """The witnesses that a witness's or group's name stands for; none for :data:`NONE`."""
        found, names = [], [name]
        while names:
            name = names.pop()
            if name in self.groups:
                names += reversed(self.groups[name].members)
            elif name in self.witnesses:
                found.append(name)
        return found

    def require(self, cosigned: Mapping[str, int], now: datetime, limits: Limits = LIMITS) -> Verdict:
        """As :meth:`evaluate`, for a quorum that must be there.

        Raises:
            EvidenceError: it is not; the message names who is missing.
        """
        verdict = self.evaluate(cosigned, now, limits)
        if not verdict.satisfied:
            late = any(reason == NOT_YET for reason in verdict.uncounted.values())
            raise EvidenceError(
                f"log policy: no quorum of witnesses: {verdict.lacking}",
                todo="compare this machine's clock with another one; if it is right, a witness's is not"
                if late
                else "",
            )
        return verdict

    def encode(self) -> bytes:
        """The file in its plainest form: no comments, one space between words."""
        lines = [_words("log", log.vkey, log.url) for log in self.logs]
        lines += [_words("witness", one.name, one.vkey, one.url) for one in self.witnesses.values()]
        lines += [_words("group", one.name, str(one.least), *one.members) for one in self.groups.values()]
        lines.append(_words("quorum", self.quorum))
        for one in self.witnesses.values():
            facts = {"jurisdiction": one.jurisdiction, "from": one.since or "", "until": one.until or ""}
            if any(facts.values()):
                said = [f"{name}={value}" for name, value in facts.items() if value]
                lines.append(_words("#", EXTENSION, "witness", one.name, *said))
        if self.jurisdictions:
            lines.append(_words("#", EXTENSION, "jurisdictions", str(self.jurisdictions)))
        lines += [_words("#", EXTENSION, "rebuilder", name, key.raw.hex()) for name, key in self.rebuilders.items()]
        if self.rebuilds:
            lines.append(_words("#", EXTENSION, "rebuilders", str(self.rebuilds)))
        return "".join(line + "\n" for line in lines).encode()


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def parse_policy(data: bytes, limits: Limits = LIMITS) -> Policy:
    """A policy from the bytes of a file.

    Raises:
        MalformedError: a line that is not understood, with its number; a name or key that stands twice, a member that is not
            defined above, no log, not exactly one quorum.
    """
    if len(data) > limits.log_policy_bytes or data.count(b"\n") > limits.log_policy_lines:
        raise MalformedError("log policy: longer than allowed")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedError("log policy: not UTF-8") from error
    if _FORBIDDEN.search(text):
        raise MalformedError("log policy: a control character")
    *lines, rest = text.split("\n")
    if rest:
        raise MalformedError("log policy: the last line is not ended")
    reader = _Reader(limits)
    for number, line in enumerate(lines, 1):
        words = [word for word in _BLANKS.split(line) if word]
        try:
            reader.read(words)
        except MalformedError as error:
            raise MalformedError(f"log policy: line {number}: {error.what}") from error
    return reader.policy()


@dataclass(slots=True)
class _Reader:
    """What has been read so far."""

    limits: Limits
    logs: list[Log] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    quorum: str = ""
    jurisdictions: int = 0
    used: set[str] = field(default_factory=set)
    described: set[str] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    rebuilders: dict[str, PublicKey] = field(default_factory=dict)
    rebuilds: int = 0

    def read(self, words: list[str]) -> None:
        """One line."""
        match words:
            case []:
                pass
            case [first, *_] if first.startswith("#"):
                self._comment(words)
            case ["log", vkey, *url] if len(url) < 2:
                self.logs.append(Log(vkey, self._key(vkey, Kind.ED25519), "".join(url)))
            case ["witness", name, vkey, *url] if len(url) < 2:
                self.witnesses[self._new(name)] = Witness(name, vkey, self._key(vkey, Kind.COSIGNATURE), "".join(url))
            case ["group", name, least, *members] if members:
                self._group(name, least, tuple(members))
            case ["quorum", name] if not self.quorum:
                if name != NONE and name not in self.witnesses and name not in self.groups:
                    raise MalformedError(f"{name[:80]!r} is not defined above")
                self.quorum = name
            case _:
                raise MalformedError(f"not understood: {' '.join(words)[:80]!r}")

    def policy(self) -> Policy:
        """All of it.

        Raises:
            MalformedError: something is missing, or more is asked for than there can be.
        """
        if not self.logs:
            raise MalformedError("log policy: no log")
        if not self.quorum:
            raise MalformedError("log policy: no quorum")
        if len(self.rebuilders) < self.rebuilds or (self.rebuilders and not self.rebuilds):
            named, asked = len(self.rebuilders), self.rebuilds or "no number"
            raise MalformedError(f"log policy: {named} rebuilders are named, and {asked} of them asked for")
        policy = Policy(
            tuple(self.logs),
            self.witnesses,
            self.groups,
            self.quorum,
            self.jurisdictions,
            self.rebuilders,
            self.rebuilds,
        )
        below = policy.witnesses_of(policy.quorum)
        if len({self.witnesses[name].jurisdiction for name in below} - {""}) < policy.jurisdictions:
            raise MalformedError("log policy: the quorum's witnesses do not come from that many jurisdictions")
        return policy

    def _new(self, name: str) -> str:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise MalformedError(f"the name {name[:80]!r} is taken")
        return name

    def _key(self, vkey: str, kind: Kind) -> NoteKey | None:
        key = parse_vkey(vkey, self.limits)
        if key is None:
            return None
        if key.kind is not kind:
            raise MalformedError(f"the key of {key.name[:80]!r} is not one for this")
        if key.key.raw in self.keys:
            raise MalformedError(f"the key of {key.name[:80]!r} stands twice")
        self.keys.add(key.key.raw)
        return key

    def _group(self, name: str, least: str, members: tuple[str, ...]) -> None:
        self._new(name)
        for member in members:
            if member not in self.witnesses and member not in self.groups:
                raise MalformedError(f"{member[:80]!r} is not defined above")
            if member in self.used:
                raise MalformedError(f"{member[:80]!r} is a member twice")
            self.used.add(member)
        count = {"all": len(members), "any": 1}.get(least) or _count(least)
        if count > len(members):
            raise MalformedError(f"{count} of {len(members)} members can never be")
        self.groups[name] = Group(name, count, members)

    def _comment(self, words: list[str]) -> None:
        # whatever looks meant for this program must be understood by it: "#coldchain :" must not pass as a comment
        if not _OURS.match(" ".join(words)):
            return
        match words:
            case ["#", "coldchain:", "witness", name, *facts] if facts:
                self._describe(name, facts)
            case ["#", "coldchain:", "jurisdictions", count] if not self.jurisdictions:
                self.jurisdictions = _count(count)
            case ["#", "coldchain:", "rebuilder", name, key]:
                self._rebuilder(name, key)
            case ["#", "coldchain:", "rebuilders", count] if not self.rebuilds:
                self.rebuilds = _count(count)
            case _:
                raise MalformedError(f"not understood: {' '.join(words)[:80]!r}")

    def _rebuilder(self, name: str, text: str) -> None:
        if name in self.rebuilders or len(self.rebuilders) >= self.limits.rebuilders:
            raise MalformedError(f"the rebuilder {name[:80]!r} stands twice, or is one too many")
        if not _KEY.match(text):
            raise MalformedError(f"not 64 lower-case hexadecimal digits: {text[:80]!r}")
        key = PublicKey(bytes.fromhex(text))
        if key.raw in self.keys:
            raise MalformedError(f"the key of the rebuilder {name[:80]!r} stands twice")
        self.keys.add(key.raw)
        self.rebuilders[name] = key

    def _describe(self, name: str, facts: list[str]) -> None:
        witness = self.witnesses.get(name)
        if witness is None or name in self.described:
            raise MalformedError(f"the witness {name[:80]!r} is not defined above, or described twice")
        self.described.add(name)
        said: dict[str, str] = {}
        for fact in facts:
            key, equals, value = fact.partition("=")
            if not equals or key in said or key not in ("jurisdiction", "from", "until"):
                raise MalformedError(f"not understood: {fact[:80]!r}")
            said[key] = value
        if "jurisdiction" in said and not _JURISDICTION.match(said["jurisdiction"]):
            raise MalformedError(f"not a jurisdiction: {said['jurisdiction'][:80]!r}")
        since, until = _date(said.get("from")), _date(said.get("until"))
        if since and until and since >= until:
            raise MalformedError(f"{name[:80]!r} never counts: it ends before it begins")
        self.witnesses[name] = replace(witness, jurisdiction=said.get("jurisdiction", ""), since=since, until=until)


def _count(text: str) -> int:
    if not _COUNT.match(text):
        raise MalformedError(f"not a count: {text[:80]!r}")
    return int(text)


def _date(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        if not _DATE.match(text):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(f"not a date: {text[:80]!r}") from error
