from __future__ import annotations

from pathlib import Path

import pytest

from coldchain.install.directory import ClientDirectory


@pytest.fixture
def publisher_free_directory(tmp_path: Path) -> ClientDirectory:
    """A client's directory as ``make`` leaves it: nothing pinned, nothing configured."""
    directory = ClientDirectory(tmp_path / "endpoint")
    directory.make()
    return directory
