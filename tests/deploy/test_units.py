"""The units are sound, tight, and start what they say: judged by systemd's own tools, without a running systemd."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from coldchain.cli import command_line
from coldchain_server.cli import main as server_command_line

DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICES = sorted(DEPLOY.glob("*.service"))
UNITS = [*SERVICES, *sorted(DEPLOY.glob("*.timer"))]
EXPOSURE = {"coldchain-agent.service": 15, "coldchain-origin.service": 12}
"""Tenths that systemd-analyze security may give at most; 13 for the others."""


@pytest.fixture(scope="module")
def analyze() -> str:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return program


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
    )


def installed(folder: Path) -> Path:
    """The units as on a machine where our programs are: some program that exists stands for them, and no manual is looked up."""
    for path in UNITS:
        text = re.sub(r"/opt/coldchain/bin/coldchain(-server)?", "/bin/true", path.read_text())
        (folder / path.name).write_text(re.sub(r"(?m)^Documentation=.*\n", "", text))
    return folder


def test_there_are_the_units_that_the_pages_speak_of() -> None:
    names = {path.name for path in UNITS}
    assert names == {
        *(f"coldchain-{one}.service" for one in ("agent", "mirror", "monitor", "origin", "update", "witness")),
        *(f"coldchain-{one}.timer" for one in ("mirror", "monitor", "update")),
    }
    pages = "".join(path.read_text(encoding="utf-8") for path in (DEPLOY.parent / "docs").glob("*.md"))
    for name in names:
        stem, _, ending = name.partition(".")
        assert name in pages or f"{stem}.service` and `.{ending}" in pages or f"enable --now {stem}" in pages, name


def test_systemd_finds_nothing_wrong(analyze: str, tmp_path: Path) -> None:
    folder = installed(tmp_path)
    answer = run(analyze, "verify", *(str(folder / path.name) for path in UNITS))
    assert (answer.returncode, answer.stdout + answer.stderr) == (0, "")


@pytest.mark.parametrize("line", ["ProtectSytem=strict", "MemoryMax=lots", "Restart=perhaps"])
def test_systemd_would_say_so_if_a_line_were_wrong(analyze: str, tmp_path: Path, line: str) -> None:
    """The negative control of the test above."""
    folder = installed(tmp_path)
    path = folder / "coldchain-agent.service"
    path.write_text(path.read_text().replace("[Service]\n", f"[Service]\n{line}\n"))
    assert "coldchain-agent.service:" in run(analyze, "verify", str(path)).stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_has_no_right_it_does_not_need(analyze: str, path: Path) -> None:
    threshold = EXPOSURE.get(path.name, 13)
    answer = run(analyze, "security", "--offline=true", f"--threshold={threshold}", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not re.search("Unknown|Failed to parse", answer.stderr), answer.stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_starts_a_command_that_there_is(path: Path) -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", path.read_text(), re.MULTILINE)
    program, *words = shlex.split(
        line.replace("${CREDENTIALS_DIRECTORY}", "/run/x").replace("${COLDCHAIN_URL}", "https://x")
    )
    if program.endswith("coldchain-server"):
        assert words[1].startswith("/var/lib/coldchain-")
        context = server_command_line.commands[words[0]].make_context(words[0], ["/", *words[2:]])
        assert context.params["host"] == "127.0.0.1"
        return
    assert command_line().parse_args(words).command


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_it_may_write_where_its_command_writes_and_nowhere_else(path: Path) -> None:
    text = path.read_text()
    assert "\nProtectSystem=strict\n" in text
    state = {f"/var/lib/{name}" for name in re.findall(r"^StateDirectory=(.*)$", text, re.MULTILINE)}
    also = {name.lstrip("-") for name in re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)}
    (line,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    for word in shlex.split(line)[1:]:
        if word.startswith(("/var/", "/srv/")):
            assert any(word == place or word.startswith(f"{place}/") for place in state | also), word


def test_a_one_shot_service_has_its_timer() -> None:
    for path in SERVICES:
        if "Type=oneshot" in path.read_text():
            timer = path.with_suffix(".timer").read_text()
            assert "RandomizedDelaySec=" in timer
            assert "WantedBy=timers.target" in timer


@pytest.mark.parametrize("unit", ["clamav-daemon.service", "clamav-daemon.socket"])
def test_the_drop_in_lets_clamd_start_on_our_set_alone(analyze: str, tmp_path: Path, unit: str) -> None:
    """Debian's unit as it is installed, with every path below a folder of the test's; systemd judges its conditions."""
    places = [Path(folder) / unit for folder in ("/lib/systemd/system", "/usr/lib/systemd/system")]
    original = next((path for path in places if path.exists()), None)
    if original is None:
        pytest.skip("clamav-daemon is not installed")
    units, data = tmp_path / "units", tmp_path / "clamav"
    drop = units / f"{unit}.d"
    drop.mkdir(parents=True)

    def place(path: Path, target: Path) -> None:
        target.write_text(path.read_text().replace("/var/lib/clamav", str(data)))

    place(original, units / unit)
    ours = data / "coldchain" / "sets" / "42-5c1f0a9e33b07d12"
    ours.mkdir(parents=True)

    def starts() -> bool:
        return run(analyze, "condition", f"--unit={unit}", SYSTEMD_UNIT_PATH=f"{units}:").returncode == 0

    (data / "main.cvd").touch()
    (data / "daily.cvd").touch()
    assert starts()
    (data / "main.cvd").unlink()
    (data / "daily.cvd").unlink()
    (data / "coldchain" / "current").symlink_to("sets/42-5c1f0a9e33b07d12")
    (ours / "acme-acme.hdb").touch()
    assert not starts()  # why the drop-in is there
    place(DEPLOY / f"{unit}.d" / "coldchain.conf", drop / "coldchain.conf")
    assert starts()
    (ours / "acme-acme.hdb").unlink()
    assert not starts()
    (data / "daily.cld").touch()
    assert starts()
