"""The SQLite driver: one file, no server, many threads and processes."""

from windlass.drivers.sqlite.driver import SqliteDriver

__all__ = ["SqliteDriver"]
