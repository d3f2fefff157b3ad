"""The change from M to N out of the changes M to X and X to N, touching no bundle.

Only what both lists say is needed. A record added in the first and removed in the second never was; one removed in the first and
added again in the second never went. Ordinals move by counting: a record at ordinal p of X that the first change did not add stood
in M at p - (added before p) + (removed before it); for removed records of M the second list does not matter, and so in mirror for N.
"""

from __future__ import annotations

from bisect import bisect_left

from coldchain.bundle.description import BundleDescription, Section
from coldchain.errors import StateError
from coldchain_server.deltas.changes import BundleChange, Record, SetChange


def compose(first: BundleChange, second: BundleChange) -> BundleChange | None:
    """The change over both steps; None where it cannot be had from the lists (a set came or went in between, as a whole).

    Raises:
        StateError: the second does not begin where the first ends.
    """
    if second.old is None or second.old.digest != first.new.digest:
        raise StateError("two changes that do not follow each other cannot be composed")
    change = BundleChange(first.old, second.new)
    for old, new in change.changed_sets():
        one = _step(first, old, old.name)
        two = _step(second, new, new.name, ending=True)
        if one is None or two is None or one.new.sha256 != two.old.sha256:
            return None
        change.sets[new.name] = compose_sets(one, two)
    return change


def _step(change: BundleChange, section: Section, name: str, *, ending: bool = False) -> SetChange | None:
    """The change of one section within a step; an empty one where the step kept it."""
    found = change.sets.get(name)
    if found:
        return found
    description: BundleDescription | None = change.old if ending else change.new
    other = description.section(name) if description else None
    return SetChange(name, section, section) if other is not None and other.sha256 == section.sha256 else None


def compose_sets(one: SetChange, two: SetChange) -> SetChange:
    """The same for one section: all four lists are in order, so both results come from merging."""
    came = {line for _, line in one.added}
    went = {line for _, line in one.removed}
    back = {line for _, line in two.added} & went
    removed = [record for record in one.removed if record[1] not in back]
    removed += [(_through(ordinal, one.added, one.removed), line) for ordinal, line in two.removed if line not in came]
    gone = {line for _, line in two.removed} & came
    added = [record for record in two.added if record[1] not in back]
    added += [(_through(ordinal, two.removed, two.added), line) for ordinal, line in one.added if line not in gone]
    return SetChange(one.name, one.old, two.new, sorted(removed), sorted(added))


def _through(ordinal: int, leaving: list[Record], entering: list[Record]) -> int:
    """An ordinal on the other side of a step: without the ``leaving`` records before it, with the ``entering`` ones.

    ``leaving`` counts on the ordinal's own side. On the other side the k-th entering record stands before the result when its ordinal
    there is at most the result so far, which one pass of halving finds because ordinal minus rank never falls.
    """
    base = ordinal - bisect_left(leaving, (ordinal, b""))
    low, high = 0, len(entering)
    while low < high:
        middle = (low + high) // 2
        if entering[middle][0] - middle <= base:
            low = middle + 1
        else:
            high = middle
    return base + low
