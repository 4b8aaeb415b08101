"""What a store refuses whose jobs are apart from the caller's own data: no transaction spans both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from windlass.errors import NotSupportedError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractContextManager

    from windlass.drivers.base import AsyncExecute, Execute, Statement, Transaction
    from windlass.job import NewJob, Record


class Apart:
    """The methods of a driver whose ``Capabilities.transactions`` is false."""

    name: str

    def insertion(self, jobs: Sequence[NewJob]) -> Generator[Statement, list[Any], list[Record]]:
        """Refuse: there is no connection to share."""
        self._refuse("connection=")

    def adopt(self, connection: Any) -> Any:
        """Refuse: there is no connection to share."""
        self._refuse("connection=")

    def adopt_async(self, connection: Any) -> AsyncExecute:
        """Refuse: there is no connection to share."""
        self._refuse("connection=")

    def adopt_adapted(self, execute: Execute) -> Execute:
        """Refuse: there is no connection to share."""
        self._refuse("connection=")

    def enlist(self, connection: Any) -> AbstractContextManager[Execute]:
        """Refuse: there is no connection to share."""
        self._refuse("connection=")

    def transaction(self, connection: Any = None) -> AbstractContextManager[Transaction]:
        """Refuse: the handler's own writes are somewhere else."""
        self._refuse("ctx.transaction()")

    def _refuse(self, what: str) -> NoReturn:
        raise NotSupportedError(
            f"the {self.name} store cannot do {what}; the SQL stores can: SQLite, PostgreSQL and MySQL"
        )
