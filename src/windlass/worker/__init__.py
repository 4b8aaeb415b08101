"""The worker: what takes jobs from a store and runs them."""

from windlass.worker.worker import Snapshot, Worker

__all__ = ["Snapshot", "Worker"]
