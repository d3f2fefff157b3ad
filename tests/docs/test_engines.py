"""What docs/engines.md shows is what the settings take, with the defaults it names."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path

from coldchain import cli
from coldchain.engines.settings import OneEngine, engine_settings
from coldchain.engines.yara_rules import EXTERNALS
from coldchain.errors import EngineDownError, EngineError

PAGE = (Path(__file__).parents[2] / "docs" / "engines.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def test_the_policy_shown_is_one() -> None:
    (text,) = [block for kind, block in BLOCKS if kind == "toml"]
    clamav, yara = engine_settings(tomllib.loads(text)).engines
    assert (clamav.kind, yara.kind) == ("clamav", "yara")
    assert clamav.view is not None
    assert f"DatabaseDirectory {clamav.view}/current" in PAGE
    assert clamav.corpora == yara.corpora


def test_the_table_has_every_key_and_the_defaults() -> None:
    rows = dict(re.findall(r"^\| (`[a-z_`, ]+) \| .* \| ([^|]*) \|$", PAGE, re.MULTILINE))
    named = {name for keys in rows for name in re.findall(r"`(\w+)`", keys)}
    known = {one.name for one in fields(OneEngine)} - {"corpora", "load_bytes"}
    assert named == known | {"load_mebibytes", "clean", "must_detect"}
    one = OneEngine("yara", "yara")
    assert rows["`load_seconds`, `load_mebibytes`"] == f"{one.load_seconds} s, {one.load_bytes >> 20} MiB"
    assert rows["`proof_seconds`"] == f"{one.proof_seconds} s"


def test_the_commands_and_codes_and_variables_are_real() -> None:
    shown = [shlex.split(line) for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    for words in shown:
        if words[0] == "coldchain":
            assert cli._parser(words[1:]).parse_args(words[1:]).command
    for error in (EngineError, EngineDownError):
        assert f"| {error.exit_code} |" in PAGE
    for name in EXTERNALS:
        assert f"`{name}`" in PAGE
