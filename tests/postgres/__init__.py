"""A private PostgreSQL for tests: its own data folder, a Unix socket, nothing on the network."""

from tests.postgres.pooler import Pooler
from tests.postgres.server import Server, shared
from tests.postgres.standby import Standby

__all__ = ["Pooler", "Server", "Standby", "shared"]
