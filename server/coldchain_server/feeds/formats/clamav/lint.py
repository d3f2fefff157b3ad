"""The check of one ClamAV database file, line by line; nothing is dropped without a finding that says so.

Worked example, ``acme.hdb`` with CRLF line ends, a comment and an upper-case hash::

    # ours
    44D88612FEA8A8F36DE82E1278ABB02F:68:Eicar-Test-Signature

gives one good line, ``44d88612fea8a8f36de82e1278abb02f:68:Eicar-Test-Signature``, and three warnings: ``crlf`` for the
file, ``comment`` for line 1, ``not-canonical`` for line 2.

Error lines are counted in ``skipped`` and left out of the good lines. A repeated line of a *set* is left out with the
warning ``duplicate``, comments and (where the engine skips them) blank lines with ``comment`` and ``blank-line``; a *file*
without errors keeps all of these, because it is kept byte for byte. What is no list of lines is checked as a whole.
At most ``limits.findings`` findings are kept
for a file; the last then says how many more of each code there were, so the totals stay true.
"""

from __future__ import annotations

from coldchain.errors import UsageError
from coldchain.limits import LIMITS, Limits
from coldchain_server.feeds.findings import FileReport, Findings
from coldchain_server.feeds.formats.clamav.grammar import LineError, PlacedError, Record, Remark, WholeCheck
from coldchain_server.feeds.formats.clamav.types import TYPES, ClamavType

BOM = b"\xef\xbb\xbf"


def clamav_type(extension: str) -> ClamavType:
    """The type of an extension, in any case and with or without its dot.

    Raises:
        UsageError: no ClamAV database has this extension.
    """
    known = TYPES.get(extension.lower().removeprefix("."))
    if known is None:
        raise UsageError(f"{extension!r} is not an extension of a ClamAV database")
    return known


def lint_lines(file: str, extension: str, data: bytes, limits: Limits = LIMITS) -> tuple[FileReport, list[bytes]]:
    """Checks every line of a database file.

    Args:
        file: path inside the feed, for the report.
        extension: decides the grammar, e.g. ``hdb``.
        data: the file's bytes.
        limits: bounds on lines (``line_bytes``), records (``records``) and kept findings (``findings``).

    Returns:
        The report and the good lines, canonical (no line end, lower-case hashes), in file order.

    Raises:
        UsageError: the extension is none of :data:`TYPES`.
    """
    kind = clamav_type(extension)
    found = Findings(file, limits.findings)
    report = FileReport(file, kind.extension, kind.kind, "clamav")
    good: list[bytes] = []
    if not data:
        found.add(
            0,
            0,
            "error",
            "empty-file",
            "the file is empty; the engine then refuses the whole set",
            "leave the file out",
        )
    elif kind.whole is not None:
        report.records = _whole(kind.whole, data, found, report)
    else:
        _lint(kind, data, limits, found, report, good)
        report.records = len(good)
    found.into(report)
    return report, good


def _whole(check: WholeCheck, data: bytes, found: Findings, report: FileReport) -> int:
    remarks: list[Remark] = []
    try:
        records = check(data, remarks)
    except PlacedError as error:
        found.add(error.line, error.column, "error", error.code, error.what, error.fix)
    except LineError as error:
        found.add(0, error.column, "error", error.code, error.what, error.fix)
    else:
        for remark in remarks:
            found.add(0, remark.column, remark.severity, remark.code, remark.message, remark.fix)
        return records
    report.skipped = 1
    return 0


def _lint(
    kind: ClamavType, data: bytes, limits: Limits, found: Findings, report: FileReport, good: list[bytes]
) -> None:
    lines = data.split(b"\n")
    if lines[-1]:
        found.add(
            len(lines),
            0,
            "warning",
            "no-line-end",
            "the last line has no line end" + ("; one is added" if kind.kind == "set" else ""),
            "end the file with a line end",
        )
    else:
        lines.pop()
    crlf = sum(line.endswith(b"\r") for line in lines) if b"\r" in data else 0
    if crlf:
        message = f"{crlf} of {len(lines)} lines end with CR LF" + ("; the CR is removed" if kind.kind == "set" else "")
        found.add(0, 0, "warning", "crlf", message, "save the file with LF line ends")
    seen: set[bytes] = set()
    longest = min(kind.buffer - 2, limits.line_bytes)
    for place, raw in enumerate(lines, 1):
        line = raw.rstrip(b"\r")
        if kind.comments and line.startswith(b"#"):
            report.skipped += _comment(place, line, kind, found)
            continue
        if kind.blanks and not line:
            found.add(place, 0, "warning", "blank-line", "a blank line, which the engine skips", "delete the line")
            continue
        remarks: list[Remark] = []
        try:
            record = _one(kind, place, line, longest, remarks)
        except LineError as error:
            found.add(place, error.column, "error", error.code, error.what, error.fix)
            report.skipped += 1
            continue
        for remark in remarks:
            found.add(place, remark.column, remark.severity, remark.code, remark.message, remark.fix)
        if any(remark.severity == "error" for remark in remarks):
            report.skipped += 1
            continue
        if record.line != line:
            message = "written in another way than the canonical one (case, zeros or spaces); it is rewritten"
            found.add(
                place, 0, "warning", "not-canonical", message, f"write {record.line[:200].decode('utf-8', 'replace')}"
            )
        if record.line in seen:
            where = "it is left out" if kind.kind == "set" else "the engine counts it twice"
            found.add(place, 0, "warning", "duplicate", f"the same line stands further up; {where}", "delete the line")
            if kind.kind == "set":
                continue
        elif len(good) >= limits.records:
            message = f"more than {limits.records} records; the rest of the file was not read"
            found.add(place, 0, "error", "too-many", message, "split the feed")
            report.skipped += len(lines) - place + 1
            break
        seen.add(record.line)
        good.append(record.line)
    if not good and not report.skipped:
        found.add(0, 0, "warning", "no-records", "the file holds no record", "leave the file out")


def _comment(place: int, line: bytes, kind: ClamavType, found: Findings) -> int:
    """Says what there is to say of a comment; 1 if it is bad."""
    if len(line) > kind.buffer - 2:
        message = f"a comment of {len(line)} bytes: the engine reads its second half as a signature"
        found.add(place, 0, "error", "long-line", message, "shorten or delete the comment")
        return 1
    message = "a comment; it is left out" if kind.kind == "set" else "a comment"
    found.add(place, 0, "warning", "comment", message, "nothing, or delete the line")
    return 0


def _one(kind: ClamavType, place: int, line: bytes, longest: int, remarks: list[Remark]) -> Record:
    if not line:
        raise LineError(0, "blank-line", "a blank line: the engine refuses the whole file", "delete the line")
    if line.startswith(BOM) or (place == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff"))):
        raise LineError(
            1,
            "byte-order-mark",
            "the line starts with a byte order mark, which the engine reads as part of the signature",
            "save the file as plain ASCII or as UTF-8 without a mark",
        )
    if len(line) > longest:
        raise LineError(
            longest + 1,
            "long-line",
            f"the line has {len(line)} bytes; the engine's buffer ends after {longest} and it reads the rest as a new line",
            "shorten the signature, or move it to a type with longer lines",
        )
    if b"\x00" in line:
        raise LineError(
            line.index(b"\x00") + 1,
            "zero-byte",
            "a zero byte: the engine stops reading the line there",
            "remove the byte",
        )
    if b"\r" in line:
        message = "a carriage return within the line"
        raise LineError(line.index(b"\r") + 1, "carriage-return", message, "end lines with LF alone")
    assert kind.grammar is not None
    return kind.grammar(line, remarks)


def signature_name(extension: str, line: bytes) -> str | None:
    """The name an engine reports for a good line; None where the type has no names or the line is not good.

    Raises:
        UsageError: the extension is none of :data:`TYPES`.
    """
    grammar = clamav_type(extension).grammar
    if grammar is None:
        return None
    try:
        name = grammar(line, []).name
    except LineError:
        return None
    return None if name is None else name.decode("utf-8", "replace")
