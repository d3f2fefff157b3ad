"""YARA sources: every file is compiled with yara-x as engines will compile it, and tried on files that hold nothing but a magic.

Settings that real rule sets need are those of :mod:`coldchain.engines.yara_rules`: external variables and the relaxed syntax of
regular expressions; ``include`` is refused, because an engine loads each file alone. A rule that matches a file of a few bytes with
only an executable's or document's magic would match every file of that type: it is refused.

Source: yara-x's documentation; ``--relaxed-re-syntax``; what real sets were seen to need.
"""

from __future__ import annotations

from typing import Final

import yara_x

from coldchain.engines.yara_rules import compiler
from coldchain_server.feeds.document_hunts import hunts_documents
from coldchain_server.feeds.findings import FileReport, Findings
from coldchain_server.feeds.formats.yara_source import RuleSpan, rule_spans, without_rules

MAGICS: Final = {
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(57),
    "PE": b"MZ" + bytes(62),
    "ZIP": b"PK\x03\x04" + bytes(60),
    "PDF": b"%PDF-1.7\n" + bytes(55),
    "OLE2": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(56),
    "Mach-O": b"\xcf\xfa\xed\xfe" + bytes(60),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(56),
    "script": b"#!/bin/sh\n",
    "nothing": b"",
}
_ATTEMPTS = 64
_SECONDS = 60
"""More than any rule needs for a file of 64 bytes; one that takes longer would hold up endpoints."""


def compile_source(text: str, origin: str) -> yara_x.Rules:
    """Compiled rules of one file. Raises yara_x.CompileError."""
    made = compiler()
    made.add_source(text, origin=origin)
    return made.build()


def lint_yara(file: str, data: bytes, *, skip_bad: bool = False) -> tuple[FileReport, bytes]:
    """Compiles and tries one file.

    Args:
        file: its path, for the report.
        data: the source.
        skip_bad: leave out the rules that do not compile or match magics; the report counts them.

    Returns:
        The report, and the source to publish: ``data`` itself, or without the rules that were left out.
    """
    report = FileReport(file=file, type="yara", kind="file", engine="yara")
    found = Findings(file)
    kept = _lint(data, skip_bad, report, found)
    if not report.records:
        # Nothing of the file is published, so all its rules count as left out.
        report.skipped = max(report.skipped, sum(1 for _ in rule_spans(data)))
        if not any(finding.severity == "error" for finding in found.kept):
            found.add(0, 0, "error", "no-records", "the file holds no rule", "remove the file from the feed")
    found.into(report)
    return report, kept


def _lint(data: bytes, skip_bad: bool, report: FileReport, found: Findings) -> bytes:
    """Checks a source; returns what is to be published of it, and counts its rules in the report (0: nothing)."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        found.add(line, column, "error", "not-utf-8", "the source is not UTF-8", "save the file as UTF-8")
        return data
    kept = data
    for _ in range(_ATTEMPTS):
        bad, rules = _compile(kept, found)
        if rules is not None:
            bad = _try(kept, rules, found)
            if not bad:
                report.records = sum(1 for _ in rules)
                _flag_documents(kept, found)
                return kept
        if not skip_bad:
            report.skipped = len(bad)
            return data
        if not bad:
            return data  # what is wrong lies outside of any rule
        report.skipped += len(bad)
        kept = without_rules(kept, bad)
    return data


def _compile(data: bytes, found: Findings) -> tuple[list[RuleSpan], yara_x.Rules | None]:
    made = compiler()
    try:
        made.add_source(data.decode("utf-8"), origin=found.file)
        return [], made.build()
    except yara_x.CompileError as error:
        spans = list(rule_spans(data))
        bad: dict[int, RuleSpan] = {}
        for item in made.errors() or [{"title": str(error), "line": 0, "column": 0, "code": "E", "labels": []}]:
            at = next((label["span"]["start"] for label in item["labels"] if label["level"] == "error"), None)
            span = next((one for one in spans if at is not None and one.start <= at < one.end), None)
            if span is not None:
                bad[span.start] = span
            detail = "; ".join(label["text"] for label in item["labels"] if label["level"] == "error")
            message = f"{item['title']} ({item['code']})" + (f": {detail}" if detail else "")
            fix = f"mend or remove rule {span.name}" if span else "mend or remove what the compiler names"
            line, column = item.get("line") or 0, item.get("column") or 0
            found.add(line, column, "error", "does-not-compile", message, fix)
        return list(bad.values()), None


def _try(data: bytes, rules: yara_x.Rules, found: Findings) -> list[RuleSpan]:
    scanner = yara_x.Scanner(rules)
    scanner.set_timeout(_SECONDS)
    matched: dict[str, list[str]] = {}
    for magic, content in MAGICS.items():
        for rule in scanner.scan(content).matching_rules:
            matched.setdefault(rule.identifier, []).append(magic)
    bad = []
    for span in rule_spans(data):
        if span.name not in matched:
            continue
        bad.append(span)
        message = f"rule {span.name} matches a file with nothing but the magic of: {', '.join(matched[span.name])}"
        line = data.count(b"\n", 0, span.start) + 1
        found.add(line, 0, "error", "magic-only", message, "make the condition need content of the malware")
    return bad


def _flag_documents(data: bytes, found: Findings) -> None:
    for span in rule_spans(data):
        words = hunts_documents(span.name, data[span.start : span.end])
        if words:
            line = data.count(b"\n", 0, span.start) + 1
            message = f"rule {span.name} seems to look for documents, not malware: {', '.join(words)}"
            fix = "a person must decide; leave it out, or say publicly why it stays"
            found.add(line, 0, "flag", "document-hunt", message, fix)
