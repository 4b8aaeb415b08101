"""Free ports for private servers.

Taken from below the range that the system hands out to outgoing connections: a server that is down for a moment
finds its port free when it comes back, and a client that retries meanwhile cannot connect to itself.
"""

import random
import socket

LOWEST = 15000
HIGHEST = 32000  # Linux hands out 32768 and above, others 49152 and above

_random = random.SystemRandom()  # the order of tests seeds the other one, the same in every process


def free_port() -> int:
    """Return a port that nobody listens on now; who needs it binds it soon and tries another one if it is gone."""
    while True:
        port = _random.randint(LOWEST, HIGHEST)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
