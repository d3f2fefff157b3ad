"""Coldchain's reference client: verifies everything before it applies anything."""

__version__ = "0.1.0"
