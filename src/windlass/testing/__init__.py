"""For tests of applications that use Windlass, and of drivers.

``testing(app)`` swaps in the memory store and a virtual clock. ``synchronous(app)``, ``ignoring(app)`` and
``recording(app)`` change what an enqueue does in one context. ``windlass.testing.conformance`` is the suite that every
driver passes, ``windlass.testing.model`` the model that it is compared with.
"""

from windlass.testing.harness import Harness, testing
from windlass.testing.modes import Recorded, ignoring, recording, synchronous
from windlass.testing.sieve import Batches

__all__ = ["Batches", "Harness", "Recorded", "ignoring", "recording", "synchronous", "testing"]
