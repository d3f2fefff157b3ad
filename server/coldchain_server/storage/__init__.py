"""Published files: a directory by default, an object store past one machine."""

from coldchain_server.storage.interface import Entry, Storage

__all__ = ["Entry", "Storage"]
