from __future__ import annotations

from tests.memory_disk import tmp_path

__all__ = ["tmp_path"]
