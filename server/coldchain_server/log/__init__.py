"""The publishing side of the public log."""
