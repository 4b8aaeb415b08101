"""For tests of applications that use Windlass, and of drivers.

``testing(app)`` swaps in the memory store and a virtual clock. ``windlass.testing.conformance`` is the suite that every
driver passes, ``windlass.testing.model`` the model that it is compared with.
"""

from windlass.testing.harness import Harness, testing

__all__ = ["Harness", "testing"]
