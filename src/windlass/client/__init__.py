"""Every client operation, each with its awaitable twin.

The rules are in :mod:`windlass.lifecycle`; here they are looked up, handed to the driver, and its answers turned into
what users hold.
"""

from windlass.client.batching import Batching
from windlass.client.claiming import Claiming
from windlass.client.declaring import Declaring
from windlass.client.limiting import Limiting
from windlass.client.observing import Observing
from windlass.client.reading import Reading


class Client(Batching, Limiting, Reading, Observing, Claiming, Declaring):
    """What can be asked of a store of jobs, whether or not this process knows their tasks."""


__all__ = ["Client"]
