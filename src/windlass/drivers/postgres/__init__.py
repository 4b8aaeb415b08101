"""The PostgreSQL driver."""

from windlass.drivers.postgres.driver import PostgresDriver

__all__ = ["PostgresDriver"]
