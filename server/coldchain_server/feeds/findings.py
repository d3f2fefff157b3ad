"""What the check of a feed has to say: one finding for each thing found, one report for each file.

Worked example, line 3 of ``acme.hdb`` with a hash that is one digit short::

    acme.hdb:3:1: error bad-hash: the hash has 31 hex digits; MD5 has 32, SHA-1 40, SHA-256 64
      fix: copy the whole hash again

An ``error`` is something an engine refuses, ignores or misreads, or that would fire on harmless files: it refuses the
feed. A ``warning`` is put right or harmless. A ``flag`` loads well and still needs a person's decision: a signature that
seems to look for documents rather than malware. Lines and columns count from 1, columns in bytes; 0 stands for the whole
file or the whole line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from coldchain.limits import LIMITS

Severity = Literal["error", "warning", "flag"]
EngineName = Literal["clamav", "yara", "none"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found: ``line`` and ``column`` from 1 (0: the whole file, the whole line), ``code`` in kebab-case."""

    file: str
    line: int
    column: int
    severity: Severity
    code: str
    message: str
    fix: str

    def __str__(self) -> str:
        """Two lines for a person, the first in the form compilers use."""
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}" if self.column else f":{self.line}"
        text = f"{place}: {self.severity} {self.code}: {self.message}"
        return f"{text}\n  fix: {self.fix}" if self.fix else text

    def as_json(self) -> dict[str, str | int]:
        """The same for ``--json`` and the manifest's evidence."""
        return {
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
        }


MORE = "more-findings"
"""The code of the last finding of a file that has more than are listed."""


class Findings:
    """Collects a file's findings up to a bound and counts the rest by code, so that totals stay true.

    Args:
        file: the file's path inside its feed.
        most: the bound.
    """

    def __init__(self, file: str, most: int = LIMITS.findings) -> None:
        self.file = file
        self.most = most
        self.kept: list[Finding] = []
        self.more: Counter[tuple[str, Severity]] = Counter()

    def add(self, line: int, column: int, severity: Severity, code: str, message: str, fix: str) -> None:
        """One more; the arguments are those of :class:`Finding`."""
        if len(self.kept) < self.most:
            self.kept.append(Finding(self.file, line, column, severity, code, message, fix))
        else:
            self.more[code, severity] += 1

    def into(self, report: FileReport) -> None:
        """Ends the collecting: sets the report's findings and unlisted errors."""
        report.findings = self.kept
        report.unlisted = {code: count for (code, severity), count in sorted(self.more.items()) if severity == "error"}
        if self.more:
            worst = max((severity for _, severity in self.more), key=("warning", "flag", "error").index)
            rest = ", ".join(f"{code} {count}" for (code, _), count in sorted(self.more.items()))
            message = f"{sum(self.more.values())} more findings are not listed: {rest}"
            fix = "correct the first ones and check again"
            report.findings.append(Finding(self.file, 0, 0, worst, MORE, message, fix))


@dataclass
class FileReport:
    """The check of one file.

    Attributes:
        file: the file's path inside its feed.
        type: the lower-case extension that decided the grammar (``hdb``), or a name such as ``yara``.
        kind: ``set`` where the order of lines carries no meaning, else ``file``.
        engine: the engine that loads it; ``none`` for files no engine reads.
        records: good records.
        skipped: records left out because of an error.
        findings: in the order of lines, up to a bound.
        unlisted: errors beyond the bound, by code.
    """

    file: str
    type: str
    kind: Literal["set", "file"]
    engine: EngineName
    records: int = 0
    skipped: int = 0
    findings: list[Finding] = field(default_factory=list)
    unlisted: dict[str, int] = field(default_factory=dict)

    @property
    def errors(self) -> list[Finding]:
        """The findings that refuse the feed."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def flags(self) -> list[Finding]:
        """The findings that need a person's decision."""
        return [finding for finding in self.findings if finding.severity == "flag"]

    @property
    def reasons(self) -> Counter[str]:
        """How many errors of each code there are, those beyond the bound with them."""
        listed = Counter(finding.code for finding in self.errors if finding.code != MORE)
        return listed + Counter(self.unlisted)

    @property
    def counts(self) -> dict[str, int]:
        """How often each code was found, most frequent first (ties by name)."""
        counted = Counter(finding.code for finding in self.findings)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))
