"""The engines' part of policy.toml: every key is read, and whatever is not as described is refused by its section and key."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from coldchain.engines import settings
from coldchain.engines.interface import Corpora
from coldchain.engines.settings import EngineSettings, OneEngine, engine_settings
from coldchain.errors import UsageError
from coldchain.install.directory import ClientDirectory
from coldchain.install.policy_file import read_customer_policy


def parsed(text: str) -> EngineSettings:
    return engine_settings(tomllib.loads(text))


def shown() -> str:
    """The example of the module's docstring."""
    assert settings.__doc__ is not None
    block = settings.__doc__.split("::\n", 1)[1].split("\n\nWithout", 1)[0]
    return "\n".join(line.removeprefix("    ") for line in block.splitlines())


def test_the_example_says_what_it_shows() -> None:
    (one,) = parsed(shown()).engines
    assert one == OneEngine(
        kind="clamav",
        name="clamav",
        socket=Path("/run/clamav/clamd.ctl"),
        program=Path("/usr/bin/clamscan"),
        view=Path("/var/lib/clamav/coldchain"),
        load_seconds=600,
        load_bytes=4096 << 20,
        proof_seconds=300,
        corpora=Corpora(
            (Path("/usr/bin"), Path("/srv/our-product"), Path("/usr/lib/firefox")),
            (Path("/srv/samples/eicar.com"), Path("/srv/samples")),
        ),
    )


def test_what_is_left_out_is_what_the_example_says_it_is() -> None:
    (one,) = parsed('[[engine]]\nkind = "clamav"').engines
    assert one == OneEngine("clamav", "clamav")
    (shown_one,) = parsed(shown()).engines
    for name in ("load_seconds", "load_bytes", "proof_seconds"):
        assert getattr(one, name) == getattr(shown_one, name)


def test_without_engines_there_are_none_and_other_sections_are_not_read() -> None:
    assert parsed("") == EngineSettings()
    assert parsed("[release]\nminimum_age = 3\n[corpora]\nclean = ['/a']") == EngineSettings()


def test_several_engines_each_with_its_name_and_the_common_corpora() -> None:
    found = parsed(
        "[corpora]\nclean = ['/a']\n[[engine]]\nkind = 'yara'\n[[engine]]\nkind = 'clamav'\nname = 'mail'\nclean = ['/b']"
    )
    assert [one.name for one in found.engines] == ["yara", "mail"]
    assert [one.corpora.clean for one in found.engines] == [(Path("/a"),), (Path("/a"), Path("/b"))]


CLAMAV = "[[engine]]\nkind = 'clamav'\n"


@pytest.mark.parametrize(
    ("text", "where", "key"),
    [
        ("engine = 3", "[[engine]]", ""),
        ("[engine]\nkind = 'clamav'", "[[engine]]", ""),
        ("engine = ['clamav']", "[[engine]] number 1", ""),
        ("corpora = []", "[corpora]", ""),
        ("[corpora]\nclear = []", "[corpora]", "clear"),
        ("[corpora]\nclean = '/a'", "[corpora]", "clean"),
        ("[corpora]\nclean = [3]", "[corpora]", "clean"),
        ("[corpora]\nclean = ['a']", "[corpora]", "clean"),
        ("[corpora]\nmust_detect = ['/a\\nb']".replace("'", '"'), "[corpora]", "must_detect"),
        (f"[corpora]\nclean = {['/a'] * 257}", "[corpora]", "clean"),
        ("[[engine]]\nname = 'x'", "[[engine]] number 1", "kind"),
        ("[[engine]]\nkind = 'list'", "[[engine]] number 1", "kind"),
        ("[[engine]]\nkind = 3", "[[engine]] number 1", "kind"),
        (CLAMAV + "name = '../x'", "[[engine]] number 1", "name"),
        (CLAMAV + CLAMAV, "[[engine]]", "name"),
        (CLAMAV + "view = '/v'\n" + CLAMAV + "name = 'b'\nview = '/v'", "[[engine]]", "view"),
        (CLAMAV + "socket = 'clamd.ctl'", "[[engine]] number 1", "socket"),
        (CLAMAV + "load_seconds = 0", "[[engine]] number 1", "load_seconds"),
        (CLAMAV + "load_seconds = true", "[[engine]] number 1", "load_seconds"),
        (CLAMAV + "load_seconds = 1.5", "[[engine]] number 1", "load_seconds"),
        (CLAMAV + "load_mebibytes = 15", "[[engine]] number 1", "load_mebibytes"),
        (CLAMAV + "proof_seconds = '3'", "[[engine]] number 1", "proof_seconds"),
        (CLAMAV + "sockets = '/a'", "[[engine]] number 1", "sockets"),
        ("[[engine]]\nkind = 'yara'\nsocket = '/a'", "[[engine]] number 1", "socket"),
        ("[[engine]]\nkind = 'yara'\nprogram = '/a'", "[[engine]] number 1", "program"),
        (CLAMAV * 9, "[[engine]]", ""),
    ],
)
def test_anything_else_is_refused_by_section_and_key(text: str, where: str, key: str) -> None:
    with pytest.raises(UsageError) as found:
        parsed(text)
    assert "policy.toml" in found.value.what
    assert where in found.value.what
    assert key in found.value.what
    assert found.value.todo


def test_a_mistake_in_an_engine_stops_whatever_reads_the_customers_policy(tmp_path: Path) -> None:
    directory = ClientDirectory(tmp_path)
    assert engine_settings(read_customer_policy(directory).tables) == EngineSettings()
    file = tmp_path / "policy.toml"
    file.write_text(shown(), encoding="utf-8")
    assert len(engine_settings(read_customer_policy(directory).tables).engines) == 1
    for bad in (b"[[engine]\n", b"\xff", b"#" * (256 * 1024 + 1), b'[[engine]]\nkind = "other"', b"[corpora]\nx = 1"):
        file.write_bytes(bad)
        with pytest.raises(UsageError):
            read_customer_policy(directory)
