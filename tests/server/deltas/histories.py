"""Histories of bundles that change a little from release to release, as strategies."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.client.bundle.bundles import Content, contents, file_bytes, lines_of_a_kind, names


@st.composite
def histories(draw: st.DrawFn, length: int = 3) -> list[Content]:
    """``length`` contents, each made from the one before by dropping, adding and editing lines and sections."""
    now = dict(draw(contents))
    out: list[Content] = [dict(now)]
    for _ in range(length - 1):
        for name in sorted(now):
            value = now[name]
            action = draw(st.sampled_from(["keep", "edit", "edit", "edit", "drop", "kind"]))
            if action == "drop":
                del now[name]
            elif action == "kind":
                now[name] = draw(file_bytes) if isinstance(value, list) else draw(lines_of_a_kind)
            elif action == "edit" and isinstance(value, list):
                step = draw(st.integers(1, 5))
                back = [line for content in out if isinstance(lines := content.get(name), list) for line in lines]
                again = draw(st.lists(st.sampled_from(back), max_size=4)) if back else []
                now[name] = [line for i, line in enumerate(value) if i % 5 != step] + draw(lines_of_a_kind) + again
            elif action == "edit":
                assert isinstance(value, bytes)
                at = draw(st.integers(0, len(value)))
                now[name] = value[:at] + draw(file_bytes)[:20] + value[at + draw(st.integers(0, 9)) :]
        if draw(st.booleans()):
            now.setdefault(draw(names), draw(st.one_of(lines_of_a_kind, file_bytes)))
        out.append(dict(now))
    return out
