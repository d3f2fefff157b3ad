"""Composing equals diffing the ends, and what is encoded from it makes the same bundle."""

from __future__ import annotations

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldchain.errors import StateError
from coldchain_server.deltas.changes import encode_change_list, parse_change_list
from coldchain_server.deltas.compose import compose
from coldchain_server.deltas.diff import diff_bundles
from coldchain_server.deltas.encode import encode_delta
from tests.client.bundle.bundles import Store, apply, describe
from tests.server.deltas.histories import histories

edited = st.sets(st.integers(0, 12).map(lambda i: b"%d" % i), max_size=12)


@given(st.lists(edited, min_size=3, max_size=5))
def test_composed_sets_equal_the_diff_of_the_ends(states: list[set[bytes]]) -> None:
    """Over few values, so that lines come, go and come again."""
    store = Store()
    bundles = [describe({"l": [b"x", *sorted(state)]}, store, i + 1) for i, state in enumerate(states)]
    composed = diff_bundles(bundles[0], bundles[1], store)
    for before, after in itertools.pairwise(bundles[1:]):
        found = compose(composed, diff_bundles(before, after, store))
        assert found is not None
        composed = found
    assert composed == diff_bundles(bundles[0], bundles[-1], store)


@settings(max_examples=60)
@given(histories(4))
def test_composed_bundles(history: list[dict[str, bytes | list[bytes]]]) -> None:
    """From the lists alone, read back from disk; encoding the result makes the last bundle from the first."""
    store = Store()
    bundles = [describe(content, store, i + 1) for i, content in enumerate(history)]
    steps = [parse_change_list(encode_change_list(diff_bundles(a, b, store))) for a, b in itertools.pairwise(bundles)]
    composed = steps[0]
    for step in steps[1:]:
        found = compose(composed, step)
        if found is None:  # a set came or went in between: it is diffed anew
            found = diff_bundles(bundles[0], step.new, store)
        composed = found
    assert composed == diff_bundles(bundles[0], bundles[-1], store)
    out = io.BytesIO()
    encode_delta(composed, store, out)
    assert apply(out.getvalue(), bundles[0], store, bundles[-1].digest)[0] == bundles[-1]


def test_steps_that_do_not_follow_each_other() -> None:
    store = Store()
    a, b, c = (describe({"l": [b"%d" % i]}, store, i + 1) for i in range(3))
    first, second = diff_bundles(a, b, store), diff_bundles(b, c, store)
    assert compose(first, second) is not None
    for wrong in ((second, first), (first, first), (first, diff_bundles(None, c, store))):
        with pytest.raises(StateError):
            compose(*wrong)
