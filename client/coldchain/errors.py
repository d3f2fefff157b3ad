"""The one error tree, drawn whole.

::

    ColdchainError                     exit  what the caller can conclude
    |-- UsageError                        2  the command line or a setting is wrong; nothing was touched
    |-- InternalError                     3  a defect of this program
    |-- StaleError                       10  fresh metadata could not be had; protection is older than allowed
    |-- HeldError                        11  a newer release exists, and its rollout does not include us yet
    |-- VerificationError                12  bytes came that are not what the pinned keys signed
    |   |-- SignatureError               12  fewer good signatures than the threshold
    |   |-- MalformedError               12  bytes do not follow their format
    |   |-- DigestError                  12  length or hash is not the signed one
    |   |-- RollbackError                13  older than what this client has already seen
    |   `-- ExpiredError                 14  signed, but its time is over (or our clock is wrong)
    |-- OwnPolicyError                   15  the customer's own policy keeps a release back
    |-- EvidenceError                    16  a release without good evidence of its public log entry
    |-- NewerFormatError                 17  a format of a later version than this program knows
    |-- NotPublishedError                18  the signed metadata names no release for this region and channel
    |-- TransportError                   20  the servers could not be reached or broke off
    |   |-- ThrottledError               21  the server asked to come back later (429, 503)
    |   |-- ResponseError                22  the server answered something we refuse (status, length, encoding)
    |   `-- AllowanceError               23  the customer's own cap on bytes is reached
    |-- EngineError                      30  the engine refused the new set; the old one stays
    |   `-- EngineDownError              31  an engine is not there or does not answer; what it had stays
    |-- DamagedError                     40  what is installed is not what was signed
    |-- NotInstalledError                41  the directory holds no verified set yet
    |-- LockedError                      42  another process works on the directory
    |-- StorageError                     43  the disk refused (full, read-only, broken)
    |-- AlertError                       50  a monitor found something that must not be
    |   |-- DifferenceError              51  regions' bundles differ by more than their declared policies
    |   `-- ResidencyError               53  outcome reports are not where they must be, or a copy of them is not equal
    |-- RebuildError                     52  a release, assembled again from its sources, is not the published one
    `-- ServerError                      60  the publishing side
        |-- LintError                    61  a feed holds lines an engine would refuse or misread
        |-- StateError                   62  the step does not fit the state (nothing to approve, unknown release)
        |-- ApprovalError                63  signatures of the region roles are missing
        |-- KeyringError                 64  a key file is missing, wrong or locked
        |-- BusyError                    65  another publisher holds the lock
        `-- GateError                    66  a release did not pass what it is tried on before it is logged

Exit code 0 means done and current; 1 is Python's own for a crash and is never returned on purpose.
``docs/exit-codes.md`` is made from this tree.

Every error says three things to a person: *what* failed (the message), what was *kept*, and what to do
*next*. Example::

    coldchain: refused: timestamp.json: 0 of 1 needed signatures are good
      kept: release 41 stays installed and verified
      next: the server or something between may be altering files; try another --url
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar


class ColdchainError(Exception):
    """Root of all errors this project raises on purpose.

    Args:
        what: what failed, naming the file or value, without a final full stop.
        kept: what still stands, for a person; empty when nothing was at stake.
        todo: what to do next; empty when the message says it all.
    """

    exit_code: ClassVar[int] = 3
    word: ClassVar[str] = "error"

    def __init__(self, what: str, *, kept: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.kept = kept
        self.todo = todo

    def explain(self) -> str:
        """Several lines for a person: what failed, what was kept, what to do next."""
        lines = [f"{self.word}: {self.what}"]
        if self.kept:
            lines.append(f"  kept: {self.kept}")
        if self.todo:
            lines.append(f"  next: {self.todo}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The same for ``--json``: error (class name), exit_code, what, kept, next."""
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "what": self.what,
            "kept": self.kept,
            "next": self.todo,
        }


class UsageError(ColdchainError):
    """The command line or a setting is wrong; nothing was touched."""

    exit_code = 2
    word = "usage"


class InternalError(ColdchainError):
    """A defect of this program."""

    exit_code = 3
    word = "internal error"


class StaleError(ColdchainError):
    """Fresh metadata could not be had and protection is older than allowed."""

    exit_code = 10
    word = "stale"


class HeldError(ColdchainError):
    """A newer release exists, and its rollout does not include this endpoint yet."""

    exit_code = 11
    word = "held"


class VerificationError(ColdchainError):
    """Bytes came that are not what the pinned keys signed."""

    exit_code = 12
    word = "refused"


class SignatureError(VerificationError):
    """Fewer good signatures than the role's threshold."""


class MalformedError(VerificationError):
    """Bytes do not follow their format."""


class DigestError(VerificationError):
    """Length or hash is not the signed one."""


class RollbackError(VerificationError):
    """Older than what this client has already seen."""

    exit_code = 13


class ExpiredError(VerificationError):
    """Signed, but its time is over (or this machine's clock is wrong)."""

    exit_code = 14


class OwnPolicyError(ColdchainError):
    """The customer's own policy keeps a release back."""

    exit_code = 15
    word = "kept back"


class EvidenceError(ColdchainError):
    """A release without good evidence of its public log entry."""

    exit_code = 16
    word = "refused"


class NewerFormatError(ColdchainError):
    """A format of a later version than this program knows."""

    exit_code = 17
    word = "newer than this client"


class NotPublishedError(ColdchainError):
    """The signed metadata names no release for this region and channel (yet)."""

    exit_code = 18
    word = "not published"


class TransportError(ColdchainError):
    """The servers could not be reached, or broke off."""

    exit_code = 20
    word = "unreachable"


class ThrottledError(TransportError):
    """The server asked to come back later (429, 503).

    Args:
        what: as in :class:`ColdchainError`.
        retry_after: seconds the server asked for, or None.
    """

    exit_code = 21
    word = "throttled"

    def __init__(self, what: str, *, retry_after: float | None = None, kept: str = "", todo: str = "") -> None:
        super().__init__(what, kept=kept, todo=todo)
        self.retry_after = retry_after


class ResponseError(TransportError):
    """The server answered something this client refuses (status, length, encoding)."""

    exit_code = 22
    word = "bad answer"


class AllowanceError(TransportError):
    """The customer's own cap on bytes (a day's, or an update's) is reached."""

    exit_code = 23
    word = "over the cap"


class EngineError(ColdchainError):
    """The engine refused the new set; the old one stays."""

    exit_code = 30
    word = "engine refused"


class EngineDownError(EngineError):
    """An engine is not there or does not answer, so that nothing could be tried or proved; what it had stays."""

    exit_code = 31
    word = "engine down"


class DamagedError(ColdchainError):
    """What is installed is not what was signed."""

    exit_code = 40
    word = "damaged"


class NotInstalledError(ColdchainError):
    """The directory holds no verified set yet."""

    exit_code = 41
    word = "not installed"


class LockedError(ColdchainError):
    """Another process works on the directory."""

    exit_code = 42
    word = "locked"


class StorageError(ColdchainError):
    """The disk refused (full, read-only, broken)."""

    exit_code = 43
    word = "disk"


class AlertError(ColdchainError):
    """A monitor found something in the public log, or in what it names, that must not be."""

    exit_code = 50
    word = "alert"


class DifferenceError(AlertError):
    """Regions' bundles of one release differ by more than their declared policies."""

    exit_code = 51
    word = "not explained"


class ResidencyError(AlertError):
    """Outcome reports are in another place than the one for their region, or a copy of them is not equal to the original.

    Args:
        what: as in every error.
        kept: as in every error.
        todo: as in every error.
        found: everything that was looked at, for ``--json``.
    """

    exit_code = 53
    word = "reports"

    def __init__(self, what: str, *, kept: str = "", todo: str = "", found: Mapping[str, Any] | None = None) -> None:
        super().__init__(what, kept=kept, todo=todo)
        self.found = dict(found or {})

    def as_json(self) -> dict[str, Any]:
        """As every error's, beside what was found."""
        return self.found | super().as_json()


class RebuildError(ColdchainError):
    """A release, assembled again from the sources that its manifest names, is not the published one."""

    exit_code = 52
    word = "does not rebuild"


class ServerError(ColdchainError):
    """The publishing side failed."""

    exit_code = 60


class LintError(ServerError):
    """A feed holds lines an engine would refuse or misread.

    Args:
        what: as in every error; a person gets the first findings here.
        kept: as in every error.
        todo: as in every error.
        findings: all of them, for ``--json``.
    """

    exit_code = 61
    word = "feed refused"

    def __init__(
        self, what: str, *, kept: str = "", todo: str = "", findings: Iterable[Mapping[str, str | int]] = ()
    ) -> None:
        super().__init__(what, kept=kept, todo=todo)
        self.findings = [dict(finding) for finding in findings]

    def as_json(self) -> dict[str, Any]:
        """As every error's, with the findings where there are any."""
        return super().as_json() | ({"findings": self.findings} if self.findings else {})


class StateError(ServerError):
    """The step does not fit the state (nothing to approve, unknown release)."""

    exit_code = 62
    word = "not now"


class ApprovalError(ServerError):
    """Signatures of the region roles are missing."""

    exit_code = 63
    word = "not approved"


class KeyringError(ServerError):
    """A key file is missing, wrong or locked."""

    exit_code = 64
    word = "keys"


class BusyError(ServerError):
    """Another publisher holds the lock."""

    exit_code = 65
    word = "busy"


class GateError(ServerError):
    """A release did not pass what it is tried on before it is logged and signed.

    Args:
        what: as in every error; a person gets each check that failed, and why.
        kept: as in every error.
        todo: as in every error.
        checks: the result of every check, for ``--json``.
    """

    exit_code = 66
    word = "gate"

    def __init__(self, what: str, *, kept: str = "", todo: str = "", checks: Iterable[Mapping[str, str]] = ()) -> None:
        super().__init__(what, kept=kept, todo=todo)
        self.checks = [dict(check) for check in checks]

    def as_json(self) -> dict[str, Any]:
        """As every error's, with the checks where there are any."""
        return super().as_json() | ({"checks": self.checks} if self.checks else {})
