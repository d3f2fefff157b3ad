"""Which of a machine's files a release is tried on, and EICAR."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from coldchain_server.gate.corpora import eicar, operators_files, system_sample
from tests.server.memory import memory_folder

TREES = st.dictionaries(st.sampled_from([f"{a}{b}" for a in ("", "x/", "y/z/") for b in "abcd"]), st.integers(0, 40))


def grow(folder: Path, tree: dict[str, int]) -> None:
    for name, length in tree.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * length)


def test_eicar_is_the_file_that_everybody_means() -> None:
    assert (len(eicar()), hashlib.md5(eicar()).hexdigest()) == (68, "44d88612fea8a8f36de82e1278abb02f")


def test_no_file_of_this_repository_holds_it() -> None:
    top = Path(__file__).parents[3]
    for folder in ("client", "server", "tests", "fixtures", "docs", "benchmarks"):
        for path in (top / folder).rglob("*"):
            assert not path.is_file() or eicar() not in path.read_bytes(), path


@given(TREES, TREES, st.integers(0, 200))
def test_a_sample_is_within_its_bound_and_always_the_same(
    one: dict[str, int], other: dict[str, int], most: int
) -> None:
    with memory_folder() as folder:
        grow(folder / "one", one)
        grow(folder / "other", other)
        directories = [folder / "one", folder / "other", folder / "missing"]
        sample = system_sample(directories, most)
        assert sample == system_sample(directories, most)
        lengths = [path.stat().st_size for path in sample.files]
        assert sum(lengths) == sample.bytes <= most
        assert all(lengths)
        assert len(set(sample.files)) == len(sample.files)
        assert sample.of == sum(length > 0 for length in (*one.values(), *other.values()))
        everything = sum(one.values()) + sum(other.values())
        if most >= everything:
            assert sample.bytes == everything
        # none takes the share of another: each has what it holds, or its share but for less than one more file
        for name, tree in (("one", one), ("other", other)):
            taken = sum(path.stat().st_size for path in sample.files if path.parts[len(folder.parts)] == name)
            assert taken == sum(tree.values()) or taken > most // 3 - max(tree.values())


def test_links_and_unprintable_names_are_passed_over_and_hard_links_count_once(tmp_path: Path) -> None:
    grow(tmp_path, {"a": 5, "b": 7})
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.link(tmp_path / "a", tmp_path / "again")
    (tmp_path / "odd\nname").write_bytes(b"x")
    sample = system_sample([tmp_path], 1000)
    assert (sample.bytes, sample.of) == (12, 2)


def test_the_operators_files_are_all_of_them(tmp_path: Path) -> None:
    grow(tmp_path, {"x/a": 1, "x/y/b": 2, "c": 0})
    assert operators_files([tmp_path / "x", tmp_path / "c"], "clean") == (
        tmp_path / "c",
        tmp_path / "x" / "a",
        tmp_path / "x" / "y" / "b",
    )
