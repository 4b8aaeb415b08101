"""Windlass itself, on SQLite at `durability="full"` and in memory."""

from benchmarks.contender import Contender

# Workers run as `python -m benchmarks.windlass_worker` through `process.workers`; their handlers note with `probe`.
# Works, by the names of `numbers.py`: enqueue_one, enqueue_32_threads, enqueue_many, drain, drain_threads,
# drain_2_processes, drain_memory, latency, idle, commits.
CONTENDER = Contender(name="windlass", works={}, drains=frozenset())
