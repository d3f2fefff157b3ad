"""From an ``[[engine]]`` of the settings to the engine."""

from __future__ import annotations

from coldchain.engines.clamav import ClamAV
from coldchain.engines.interface import Engine
from coldchain.engines.settings import OneEngine
from coldchain.engines.yara import Yara


def open_engine(settings: OneEngine) -> Engine:
    """The engine that the settings describe. Nothing is started, looked for or asked yet."""
    return Yara(settings) if settings.kind == "yara" else ClamAV(settings)
