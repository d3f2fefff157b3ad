"""Which old sections a column may refer to: all that are alike, or those nearest in name order until the budget is spent.

The writer's half of :mod:`coldchain.bundle.window`.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

from coldchain.bundle.address_lines import LINE as ADDRESS_LINE
from coldchain.bundle.description import BundleDescription, Section
from coldchain.bundle.hash_lines import HEX
from coldchain.bundle.hash_lines import LINE as HASH_LINE
from coldchain.bundle.header import old_sections
from coldchain.bundle.window import encode_window
from coldchain_server.deltas.changes import ContentStore

BUDGET_BYTES = 3 << 20


@dataclass(frozen=True, slots=True)
class Window:
    """A window's form on the wire and its content."""

    head: bytes
    content: bytes


class Windows:
    """The windows into one old bundle; content is read once and kept while the delta is written."""

    def __init__(self, old: BundleDescription | None, content: ContentStore) -> None:
        self._olds = old_sections(old)
        self._names = [section.name for section in self._olds]
        self._content = content
        self._last: tuple[list[int], Window] | None = None
        self._alike: dict[str, list[int]] = {}

    def near(self, kind: str, names: list[str]) -> Window | None:
        """The window of this kind of section around ``names``; None where there is nothing to refer to."""
        places = self._nearest(self._sections(kind), names)
        if not places:
            return None
        if not self._last or self._last[0] != places:
            parts = [self._content(self._olds[place].sha256).read_bytes() for place in places]
            self._last = (places, Window(encode_window(places, len(self._olds)), b"".join(parts)))
        return self._last[1]

    def _sections(self, kind: str) -> list[int]:
        if kind not in self._alike:
            self._alike[kind] = [
                place
                for place, section in enumerate(self._olds)
                if section.kind == kind and section.bytes <= BUDGET_BYTES and (kind == "file" or self._is_text(section))
            ]
        return self._alike[kind]

    def _is_text(self, section: Section) -> bool:
        """Whether a set is of neither hashes nor addresses, judged by its beginning."""
        with self._content(section.sha256).open("rb") as file:
            lines = file.read(4096).split(b"\n")[:-1]
        binary = sum(1 for line in lines if HASH_LINE.match(line) or HEX.match(line) or ADDRESS_LINE.match(line))
        return 2 * binary <= len(lines)

    def _nearest(self, alike: list[int], names: list[str]) -> list[int]:
        if sum(self._olds[place].bytes for place in alike) <= BUDGET_BYTES:
            return alike
        anchors = [bisect_left(self._names, name) for name in names]
        distance: dict[int, int] = {}
        for place in alike:
            at = bisect_left(anchors, place)
            distance[place] = min(abs(place - anchor) for anchor in anchors[max(0, at - 1) : at + 1])
        taken: list[int] = []
        room = BUDGET_BYTES
        for place in sorted(alike, key=lambda place: (distance[place], place)):
            room -= self._olds[place].bytes
            if room < 0:
                break
            taken.append(place)
        return sorted(taken)
