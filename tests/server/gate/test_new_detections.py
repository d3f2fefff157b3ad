"""What a release found is kept and read back strictly; what is compared is what both releases were tried with."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldchain import canonical
from coldchain.errors import MalformedError
from coldchain_server.gate.new_detections import Detections, parse_detections

NAMES = st.sampled_from(["clamav A-1", "clamav B-2", "yara R", "yara S"])
DIGESTS = st.sampled_from([f"{number:064x}" for number in range(4)])
FOUND = st.builds(
    Detections,
    st.frozensets(st.sampled_from(["clamav", "yara"])),
    st.dictionaries(DIGESTS, st.frozensets(NAMES)),
)


@given(FOUND)
def test_what_is_written_is_read_back(found: Detections) -> None:
    assert parse_detections(found.encode()) == found


@given(FOUND, st.data())
def test_any_cut_or_changed_byte_is_refused_or_another_thing(found: Detections, data: st.DataObject) -> None:
    encoded = found.encode()
    at = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:at], encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]):
        try:
            assert parse_detections(wrong) != found
        except MalformedError:
            continue


@pytest.mark.parametrize(
    "change",
    [
        {"format": "coldchain-detections-2"},
        {"engines": "clamav"},
        {"engines": [1]},
        {"samples": []},
        {"samples": {"x": []}},
        {"samples": {"0" * 64: "clamav A"}},
        {"samples": {"0" * 64: [1]}},
        {"more": 1},
    ],
)
def test_what_is_of_another_form_is_refused(change: canonical.Object) -> None:
    document: canonical.Object = {"format": "coldchain-detections-1", "engines": [], "samples": {}}
    with pytest.raises(MalformedError):
        parse_detections(canonical.encode({**document, **change}))


def test_nothing_found_is_nothing() -> None:
    assert parse_detections(replace(Detections()).encode()) == Detections()
