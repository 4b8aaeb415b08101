"""Jobs in Redis or Valkey."""

from windlass.drivers.redis.driver import RedisDriver

__all__ = ["RedisDriver"]
