"""The journal that replicas share: one PostgreSQL database. Needs the extra `healer[postgres]`."""

from healer.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
