"""What a check says: its line of the manifest, and what only the operator needs to know.

A manifest is public, so a detail holds counts, engines' versions and signatures' names, and never a path of the operator's files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from coldchain.bundle.manifest import MOST_TEXT, GateCheck

CHECKS: Final = ("lint", "load-clamav", "load-yara", "canary", "clean", "own-files", "must-detect", "new-detections")
"""Every check of a manifest, in its order."""
SHOWN: Final = 8


@dataclass(frozen=True, slots=True)
class Result:
    """One check's outcome. ``findings`` are for the operator, ``blamed`` signatures that would have to go, ``todo`` what else to do."""

    check: GateCheck
    findings: tuple[str, ...] = ()
    blamed: frozenset[str] = frozenset()
    todo: str = ""

    @property
    def failed(self) -> bool:
        """Whether the release stops here."""
        return self.check.result == "failed"


def passed(check: str, detail: str) -> Result:
    """It was run, and nothing speaks against the release."""
    return Result(GateCheck(check, "passed", _fit(detail)))


def not_run(check: str, detail: str) -> Result:
    """It could not be run, or not all of it, so it proves nothing."""
    return Result(GateCheck(check, "not-run", _fit(detail)))


def failed(check: str, detail: str, findings: Iterable[str], blamed: Iterable[str] = (), todo: str = "") -> Result:
    """It was run, and the release must not go out."""
    return Result(GateCheck(check, "failed", _fit(detail)), tuple(findings), frozenset(blamed), todo)


def some(names: Iterable[str], most: int = SHOWN) -> str:
    """The first few of some names, and how many more there are."""
    every = sorted(set(names))
    more = f" and {len(every) - most:,} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def _fit(detail: str) -> str:
    """A manifest's text has a bound, and holds no control characters."""
    text = "".join(character if character.isprintable() else "?" for character in detail)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"
