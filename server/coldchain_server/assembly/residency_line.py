"""Changes one region's residency in the text of ``regions.toml``, and leaves every other byte as a person wrote it.

::

    [regions.us]                             [regions.us]
    jurisdiction = "United States"           jurisdiction = "United States"
    residency = "us"   # until December      residency = "ch"   # until December

Where the region has no such line, one is put under its heading. TOML can be spelled in more ways than are looked for here, so the
result is believed only when reading it gives exactly the regions from before with that one residency changed; a file that is
written in such a way is left to its author.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from coldchain.errors import StateError, UsageError
from coldchain_server.assembly.regions import Regions, load_regions

_TABLE = re.compile(r"^[ \t]*\[", re.MULTILINE)
_LINE = re.compile(
    r"""^([ \t]*(?:residency|"residency"|'residency')[ \t]*=[ \t]*)(?:"[^"\n]*"|'[^'\n]*')""", re.MULTILINE
)


def with_residency(regions: Regions, region: str, store: str) -> Regions:
    """The same regions, one of them (by the name it has now) and its old names with another residency."""
    names = regions.with_old_names(region)
    return replace(
        regions,
        regions={
            name: replace(one, residency=store) if name in names else one for name, one in regions.regions.items()
        },
    )


def set_residency(text: str, region: str, store: str) -> str:
    """The file's text with that residency; ``region`` is no alias.

    Raises:
        UsageError: the text is no regions.toml, or there is no such region.
        StateError: it is written in a way that cannot be changed by one line.
    """
    before = load_regions(text)
    wanted = with_residency(before, region, store)
    for candidate in _candidates(text, region, store):
        try:
            if load_regions(candidate) == wanted:
                return candidate
        except UsageError:
            continue
    raise StateError(
        f"regions.toml: the residency of {region} cannot be changed by one line",
        kept="the file is as it was",
        todo=f'write [regions.{region}] as a table of its own, with a line residency = "{before.regions[region].residency}"',
    )


def _candidates(text: str, region: str, store: str) -> Iterator[str]:
    name = re.escape(region)
    heading = re.compile(
        rf"""^[ \t]*\[[ \t]*(?:regions|"regions"|'regions')[ \t]*\.[ \t]*(?:{name}|"{name}"|'{name}')[ \t]*\][^\n]*(?:\n|\Z)""",
        re.MULTILINE,
    )
    for found in heading.finditer(text):
        start = found.end()
        following = _TABLE.search(text, start)
        end = following.start() if following else len(text)
        for line in _LINE.finditer(text, start, end):
            yield f'{text[: line.start()]}{line.group(1)}"{store}"{text[line.end() :]}'
        ending = "\r\n" if found.group().endswith("\r\n") else "\n"
        gap = "" if found.group().endswith("\n") else "\n"
        yield f'{text[:start]}{gap}residency = "{store}"{ending}{text[start:]}'
