"""Every client operation, each with its awaitable twin.

The rules are in :mod:`windlass.lifecycle`; here they are looked up, handed to the driver, and its answers turned into
what users hold.
"""

from windlass.client.claiming import Claiming
from windlass.client.listening import Listening
from windlass.client.managing import Managing
from windlass.client.reading import Reading
from windlass.client.sending import Sending


class Client(Sending, Reading, Managing, Claiming, Listening):
    """What can be asked of a store of jobs, whether or not this process knows their tasks."""


__all__ = ["Client"]
