"""The memory driver: everything in this process, gone with it; for tests, demos and caches that may be lost."""

from windlass.drivers.memory.driver import MemoryDriver

__all__ = ["MemoryDriver"]
