"""What is published: notifications on a channel of their own, cut into pieces, and who listens.

A listener has a connection and a thread, so that it always reads: one that did not would fill the server's queue of
notifications, which all share. What nobody fetches is dropped here, the oldest first.
"""

from __future__ import annotations

import base64
import contextlib
import os
import queue
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql as names

from windlass.drivers.inbox import fetch
from windlass.drivers.postgres.connect import translated
from windlass.errors import WindlassError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from windlass.drivers.postgres.connect import Connection, Connector
    from windlass.drivers.postgres.pool import Pool
    from windlass.drivers.postgres.sql import Sql

PIECE = 5_700
"""Bytes of a message in one notification: PostgreSQL takes 7,999 characters, and four stand for three."""
KEPT = 10_000
"""Messages that wait for a listener that does not fetch them."""
EXPIRY = 45.0
"""Seconds after which a listener is forgotten that does not say that it still listens."""
RENEWAL = 15.0
AGAIN = 1.0
"""Seconds between tries to listen again after the connection was lost."""


def pieces(messages: Sequence[bytes]) -> list[str]:
    """Cut messages into texts, none like another: the server drops what is notified twice in one transaction."""
    made = []
    for message in messages:
        token = secrets.token_hex(6)
        starts = range(0, len(message), PIECE) or range(1)
        for number, start in enumerate(starts, 1):
            text = base64.b64encode(message[start : start + PIECE]).decode()
            made.append(f"{token} {number} {len(starts)} {text}")
    return made


class Whole:
    """Puts pieces together; a message of which one is missing is dropped when another begins to come whole."""

    def __init__(self) -> None:
        self._parts: dict[str, list[bytes]] = {}

    def add(self, piece: str) -> bytes | None:
        """Return the message that this piece completes."""
        token, number, count, text = piece.split(" ")
        part = base64.b64decode(text)
        if count == "1":
            return part
        if number == "1":
            while len(self._parts) > 100:  # of publishers that have gone in the middle
                del self._parts[next(iter(self._parts))]
            self._parts[token] = []
        parts = self._parts.get(token)
        if parts is None or len(parts) != int(number) - 1:
            return None
        parts.append(part)
        return b"".join(self._parts.pop(token)) if number == count else None


class Ear:
    """One listener."""

    def __init__(self, connector: Connector, sql: Sql, pool: Pool) -> None:
        self._connector, self._sql, self._pool = connector, sql, pool
        self._id = secrets.token_hex(8)
        self._inbox: queue.Queue[bytes] = queue.Queue(KEPT)
        self._stop = threading.Event()
        self._connection: Connection | None = self._listen()
        self._register()
        self._thread = threading.Thread(target=self._run, name="windlass-ear", daemon=True)
        self._thread.start()

    def get(self, timeout: float) -> list[bytes]:
        """Return what has come, waiting for the first."""
        return fetch(self._inbox, timeout)

    def close(self) -> None:
        """Stop listening."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._hang_up()
        self._thread.join(AGAIN)
        with contextlib.suppress(WindlassError), self._pool.lend() as connection:
            connection.execute(self._sql.listen_no_more, (self._id,))

    def _hang_up(self) -> None:
        """Wake the thread, which waits for the socket."""
        with contextlib.suppress(Exception):  # it may be closed, or opened, just now
            if self._connection is not None:
                with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
                    copy.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> Connection:
        connection = self._connector.connect()
        try:
            with translated():
                connection.execute(names.SQL("LISTEN {}").format(names.Identifier(self._sql.news)), prepare=False)
        except BaseException:
            connection.close()
            raise
        return connection

    def _register(self) -> None:
        with self._pool.lend() as connection:
            connection.execute(self._sql.listen_until, (self._id, EXPIRY))

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                connection = self._connection = self._connection or self._listen()
                try:
                    self._hear(connection)
                finally:
                    self._connection = None
                    connection.close()
            except (psycopg.Error, WindlassError, OSError):
                self._stop.wait(AGAIN)

    def _hear(self, connection: Connection) -> None:
        """Read until told to stop, and say now and then that somebody does."""
        whole = Whole()
        renewed = time.monotonic()
        self._register()
        while not self._stop.is_set():
            for notification in connection.notifies(timeout=1.0, stop_after=1):
                if (message := whole.add(notification.payload)) is not None:
                    self._keep(message)
            if time.monotonic() - renewed >= RENEWAL:
                self._register()
                renewed = time.monotonic()

    def _keep(self, message: bytes) -> None:
        while True:
            try:
                self._inbox.put_nowait(message)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._inbox.get_nowait()
            else:
                return
