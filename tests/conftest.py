"""For all tests: none asserts a time, so hypothesis has no deadline either (a busy machine is no defect)."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("coldchain", deadline=None)
settings.load_profile("coldchain")
