"""The list of edges: tokens are nowhere but with the edges, and a section that is gone is nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.errors import UsageError
from coldchain_server.reports.edges import FILE, EdgeList, KnownEdge, digest_of, load_edges


def test_adding_and_taking_off(tmp_path: Path) -> None:
    path = tmp_path / FILE
    edges = EdgeList(path)
    for nobody in ("anything", "", "\udcff", "ü" * 2000):
        assert edges.of(nobody) is None
    one, two = edges.add("tokyo-1", ["jp"]), edges.add("osaka-1", ["jp", "kr"])
    assert one != two
    assert edges.of(one) == KnownEdge("tokyo-1", ("jp",), digest_of(one))
    assert edges.of(two) == KnownEdge("osaka-1", ("jp", "kr"), digest_of(two))
    text = path.read_text()
    assert one not in text
    assert two not in text
    path.write_text(text[text.index("[edges.osaka-1]") :])
    assert edges.of(one) is None
    assert edges.of(two) is not None
    path.unlink()
    assert edges.of(two) is None


def test_a_file_with_comments_of_a_person_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(f'# ours\n[edges.a]\nregions = ["us"]\ntoken = "{"0" * 64}"\nmost_per_hour = 10\n')
    EdgeList(path).add("b", ["us"])
    assert path.read_text().startswith("# ours\n[edges.a]\n")
    assert load_edges(path.read_text())["0" * 64].most_per_hour == 10


@pytest.mark.parametrize(
    "text",
    [
        "edges",
        "edges = 1",
        "[edge.a]\nregions = ['us']",
        "[edges]\na = 1",
        "[edges.a]\nregions = ['us']",
        f"[edges.a]\ntoken = '{'0' * 64}'",
        f"[edges.a]\nregions = []\ntoken = '{'0' * 64}'",
        f"[edges.a]\nregions = 'us'\ntoken = '{'0' * 64}'",
        f"[edges.a]\nregions = ['us']\ntoken = '{'0' * 63}'",
        f"[edges.a]\nregions = ['us']\ntoken = '{'A' * 64}'",
        f"[edges.a]\nregions = ['US']\ntoken = '{'0' * 64}'",
        f"[edges.A]\nregions = ['us']\ntoken = '{'0' * 64}'",
        f"[edges.direct]\nregions = ['us']\ntoken = '{'0' * 64}'",
        f"[edges.a]\nregions = ['us']\ntoken = '{'0' * 64}'\nmost_per_hour = 0",
        f"[edges.a]\nregions = ['us']\ntoken = '{'0' * 64}'\nmost_per_hour = true",
        f"[edges.a]\nregions = ['us']\ntoken = '{'0' * 64}'\nsecret = 1",
        f"[edges.a]\nregions = ['us']\ntoken = '{'0' * 64}'\n[edges.b]\nregions = ['us']\ntoken = '{'0' * 64}'",
    ],
)
def test_what_is_no_list(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"edges\.toml"):
        load_edges(text)
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UsageError):
        EdgeList(tmp_path / FILE).of("x")


@pytest.mark.parametrize(("name", "regions"), [("a", ["us"]), ("direct", ["us"]), ("A b", ["us"]), ("b", ["U S"])])
def test_what_cannot_be_added(name: str, regions: list[str], tmp_path: Path) -> None:
    edges = EdgeList(tmp_path / FILE)
    edges.add("a", ["us"])
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(UsageError):
        edges.add(name, regions)
    assert (tmp_path / FILE).read_bytes() == before
