"""The journal on PostgreSQL against the plain model that the embedded one is held to."""

from hypothesis import HealthCheck, settings

from healer.ports import Store
from healer.store.postgres import PostgresStore
from tests.store.journals import PostgresJournal, a_journal
from tests.store.test_sqlite_model import JournalMachine


class PostgresMachine(JournalMachine):
    """The same calls and the same comparison; leases outlive a replica that goes away."""

    async def _open(self) -> Store:
        journal = a_journal("postgres", self.folder)
        assert isinstance(journal, PostgresJournal)
        return await PostgresStore.open(
            journal.place, clock=self.clock, accept_seconds=20, write_seconds=20
        )

    def _inherit(self) -> None:
        """A lease of a replica that went away runs out by itself."""


PostgresMachine.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestPostgresJournal(PostgresMachine.TestCase):
    """Every random history of calls leaves PostgreSQL's journal and the model in agreement."""
