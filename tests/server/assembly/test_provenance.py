"""The digest of the assembler's code: the same wherever the code lies, another one for any other code, and in every manifest."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import coldchain
import coldchain_server
from coldchain_server.assembly import provenance
from coldchain_server.assembly.provenance import source_digest
from coldchain_server.home import Home
from tests.server import origins

PACKAGES = {
    "coldchain": Path(str(coldchain.__file__)).parent,
    "coldchain_server": Path(str(coldchain_server.__file__)).parent,
}
PROGRAM = (
    f"import sys; sys.path[:0] = sys.argv[1:]; from {provenance.__name__} import source_digest; print(source_digest())"
)


def copied(folder: Path) -> Path:
    """Both packages side by side, as an installer lays them, without what Python compiled."""
    for name, path in PACKAGES.items():
        shutil.copytree(path, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def digest_of(folder: Path) -> str:
    """What a process says that runs the code in this folder."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def by_hand(folder: Path) -> str:
    lines = {}
    for file in sorted(folder.rglob("*.py")):
        lines[file.relative_to(folder).as_posix()] = hashlib.sha256(file.read_bytes()).hexdigest()
    return hashlib.sha256("".join(f"{lines[path]}  {path}\n" for path in sorted(lines)).encode()).hexdigest()


def test_it_is_what_the_docstring_says_wherever_the_code_lies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        folder = copied(tmp_path / name)
        assert digest_of(folder) == by_hand(folder) == source_digest()
        assert digest_of(folder) == source_digest(), "what Python compiled meanwhile does not count"


def test_any_other_code_has_another_digest(tmp_path: Path) -> None:
    folder = copied(tmp_path / "other")
    seen = {source_digest()}
    file = folder / "coldchain_server" / "demo.py"
    data = file.read_bytes()
    for change in ("a byte more", "another name", "one more file"):
        if change == "a byte more":
            file.write_bytes(data + b"\n")
        elif change == "another name":
            file.write_bytes(data)
            file.rename(file.with_name("demonstration.py"))
        else:
            (folder / "coldchain" / "extra.py").write_bytes(b"")
        found = digest_of(folder)
        assert found not in seen, change
        assert found == by_hand(folder)
        seen.add(found)


def test_every_manifest_holds_it(published_home: Home) -> None:
    read = origins.read(published_home, "us")
    assert (read.manifest.source, read.manifest.assembler) == (source_digest(), coldchain.__version__)
