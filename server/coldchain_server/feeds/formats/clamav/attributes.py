"""The target description of logical signatures: ``Engine:51-255,Target:1,FileSize:100-2000``.

::

    Engine:low-high            functionality levels; first, and needed (low at least 51) beside anything but Target
    Target:n                   needed; 0 to 14
    FileSize:low-high  EntryPoint:low-high  NumberOfSections:low-high     (the last two: PE, ELF, Mach-O)
    Container:TYPE  HandlerType:TYPE  Intermediates:TYPE>TYPE…            TYPE is CL_TYPE_…
    IconGroup1:name  IconGroup2:name                                      (PE)

Worked example: ``Engine:81-255,Container:CL_TYPE_PDF,Target:3``. The engine drops a signature *silently* for an unknown
attribute or type, and refuses the file for the rest. Source: libclamav/readdb.c lsigattribs and init_tdb, filetypes.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from coldchain_server.feeds.formats.clamav.file_types import check_file_type
from coldchain_server.feeds.formats.clamav.grammar import (
    NO_LEVEL,
    TOP_LEVEL,
    Field,
    LineError,
    Remark,
    check_levels,
    fields,
    number,
    show,
)
from coldchain_server.feeds.formats.clamav.offsets import EXECUTABLE_TARGETS, TARGETS, check_target
from coldchain_server.feeds.formats.clamav.risks import DOCUMENT_CONTAINERS

MOST_ATTRIBUTES = 10
MOST_INTERMEDIATES = 16
ENGINE_LEAST = 51
MOST = 0x7FFF_FFFF
_RANGES = (b"FileSize", b"EntryPoint", b"NumberOfSections")
_TYPES = (b"Container", b"HandlerType")
_ICONS = (b"IconGroup1", b"IconGroup2")


@dataclass(frozen=True, slots=True)
class Target:
    """What a target description says: the target type, the levels, and whether more narrows the signature."""

    target: int
    levels: tuple[int, int]
    narrowed: bool
    document: bool


def _range(value: Field, what: str, remarks: list[Remark]) -> tuple[int, int]:
    low, dash, high = value.data.partition(b"-")
    if not dash:
        raise LineError(
            value.column,
            "bad-attribute",
            f"{what} is {show(value.data)}; it must be a range",
            "write low-high, e.g. 51-255",
        )
    first = number(Field(low, value.column), f"the lower end of {what}", MOST)
    last = number(Field(high, value.column + len(low) + 1), f"the upper end of {what}", TOP_LEVEL)
    if first > last and what != "Engine":
        message = f"{what} is at least {first} and at most {last}: this can never match"
        remarks.append(Remark(value.column, "warning", "never-matches", message, "swap the numbers"))
    return first, last


def _need(condition: bool, column: int, message: str, fix: str) -> None:
    if not condition:
        raise LineError(column, "bad-attribute", message, fix)


def parse_attributes(whole: Field, remarks: list[Remark], *, target_needed: bool = True) -> Target:
    """Parses a target description.

    Args:
        whole: the field of the line.
        remarks: receives warnings.
        target_needed: pwdb lines may leave the target out.

    Raises:
        LineError: ``bad-attribute``, ``unknown-attribute``, ``unknown-type``, ``bad-target`` or a level's code.
    """
    parts = fields(whole.data, b",", whole.column)
    _need(
        len(parts) <= MOST_ATTRIBUTES, parts[-1].column, "more than 10 attributes: the engine reads ten", "remove some"
    )
    target, target_column = None if target_needed else 0, whole.column
    levels = (NO_LEVEL, TOP_LEVEL)
    seen: dict[bytes, int] = {}
    document = False
    for place, part in enumerate(parts):
        key, colon, rest = part.data.partition(b":")
        value = Field(rest, part.column + len(key) + 1)
        _need(bool(colon), part.column, f"{show(part.data)} is not an attribute", "write Name:value, e.g. Target:0")
        _need(key not in seen, part.column, f"{show(key)} is given twice", "keep one")
        seen[key] = part.column
        if key == b"Engine":
            _need(place == 0, part.column, "Engine must be the first attribute", "move it to the front")
            low, high = _range(value, "Engine", remarks)
            levels = check_levels(low, high, value.column, remarks)
        elif key == b"Target":
            _need(value.data != b"*", value.column, "the target type is *, not a number", "use 0 for any file")
            target, target_column = check_target(value), value.column
        elif key in _RANGES:
            _range(value, key.decode(), remarks)
        elif key in _TYPES:
            document |= check_file_type(value) in DOCUMENT_CONTAINERS
        elif key == b"Intermediates":
            names = fields(value.data, b">", value.column)
            _need(len(names) < MOST_INTERMEDIATES, value.column, "too many intermediate containers", "use 15 at most")
            document |= bool(DOCUMENT_CONTAINERS.intersection(map(check_file_type, names)))
        elif key not in _ICONS:
            raise LineError(
                part.column,
                "unknown-attribute",
                f"{show(key)} is no attribute; the engine drops the whole signature without a word",
                "use Engine, Target, FileSize, EntryPoint, NumberOfSections, Container, HandlerType, Intermediates, IconGroup1/2",
            )
    if target is None:
        raise LineError(whole.column, "bad-attribute", "no Target is given", "add Target:0")
    _together(seen, target, target_column, levels[0])
    return Target(target, levels, bool(set(seen) - {b"Engine", b"Target"}), document)


def _together(seen: dict[bytes, int], target: int, target_column: int, low: int) -> None:
    extra = [key for key in seen if key not in (b"Engine", b"Target")]
    if extra:
        _need(
            b"Engine" in seen and low >= ENGINE_LEAST,
            seen[extra[0]],
            f"{extra[0].decode()} needs Engine with a lowest level of at least {ENGINE_LEAST}",
            "put Engine:51-255 in front",
        )
    icons = [key for key in _ICONS if key in seen]
    _need(not icons or target == 1, target_column, "icon groups work for PE files (target 1) only", "use Target:1")
    program = [key for key in (b"EntryPoint", b"NumberOfSections") if key in seen]
    _need(
        not program or target in EXECUTABLE_TARGETS,
        target_column,
        f"EntryPoint and NumberOfSections need an executable, but target {target} is {TARGETS[target]}",
        "use target 1 (PE), 6 (ELF) or 9 (Mach-O)",
    )
