"""From an ``[[engine]]`` of the settings to the engine."""

from __future__ import annotations

from collections.abc import Callable

from coldchain.engines.clamav import ClamAV
from coldchain.engines.interface import Engine, never
from coldchain.engines.settings import OneEngine
from coldchain.engines.yara import Yara


def open_engine(settings: OneEngine, stopped: Callable[[], bool] = never) -> Engine:
    """The engine that the settings describe; its child processes end when ``stopped``. Nothing is started or asked yet."""
    return Yara(settings, stopped) if settings.kind == "yara" else ClamAV(settings, stopped)
