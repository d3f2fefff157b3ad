"""Watching a publisher from outside: follow the public log, hold it against its witnesses, compare what regions get."""
