r"""Applying a region's declared policy to sections, record by record.

A signature's name is what its engine reports: the name field of a ClamAV line, a YARA rule's name, an indicator's value itself. A line
that switches a signature off (ign, ign2) is not a signature of that name.

Worked example: the policy *leave out signature* ``A-7`` turns ``…:68:A-7\n…:70:B-1\n`` into ``…:70:B-1\n`` and counts one record. A
section that becomes empty is left out of the bundle, because engines refuse empty files.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from coldchain.errors import LintError
from coldchain_server.assembly.sections import PreparedSection
from coldchain_server.feeds.formats.clamav import TYPES, signature_name
from coldchain_server.feeds.formats.yara_source import rule_spans, users, without_rules

_VALUE = re.compile(rb"[^\t,; ]+")


def record_name(section: PreparedSection, line: bytes) -> str:
    """The name a policy knows this record of a set section by."""
    if section.engine == "list":
        found = _VALUE.match(line)
        return found.group().decode("ascii", "replace") if found else ""
    extension = section.name.rpartition(".")[2]
    if TYPES[extension].switches_off:
        return ""  # it names another signature and is none itself
    return signature_name(extension, line) or ""


def named_records(section: PreparedSection, data: bytes, names: frozenset[str]) -> dict[str, int]:
    """How many records of the section have each of these names; names it does not hold are not in the answer."""
    wanted = {name for name in names if name.encode() in data}
    if not wanted:
        return {}
    if section.engine == "yara":
        found = [span.name for span in rule_spans(data)]
    else:
        found = [record_name(section, line) for line in data.splitlines()]
    return {name: count for name in sorted(wanted) if (count := found.count(name))}


def without_signatures(
    section: PreparedSection, names: frozenset[str], content: Callable[[str], bytes], store: Callable[[bytes], str]
) -> tuple[PreparedSection | None, dict[str, int]]:
    """The section without the signatures of these names.

    Args:
        section: the section as the feed has it.
        names: signatures to leave out.
        content: SHA-256 -> the bytes.
        store: keeps bytes and returns their SHA-256.

    Returns:
        The section itself when it holds none of them, a smaller one, or None when nothing is left; and how many records each
        name took away.

    Raises:
        LintError: another YARA rule needs one that should go.
    """
    data = content(section.sha256)
    counts = named_records(section, data, names)
    if not counts:
        return section, {}
    if section.engine == "yara":
        if needing := users(data, counts):
            raise LintError(
                f"{section.name}: rule {needing[0]} needs {', '.join(counts)}, which a policy leaves out",
                todo=f"leave {needing[0]} out too, or neither",
            )
        kept = without_rules(data, [span for span in rule_spans(data) if span.name in counts])
    else:
        kept = b"".join(
            line for line in data.splitlines(keepends=True) if record_name(section, line.rstrip(b"\r\n")) not in counts
        )
    records = section.records - sum(counts.values())
    if records <= 0 or not kept:
        return None, counts
    return section.replaced(records=records, length=len(kept), sha256=store(kept)), counts
