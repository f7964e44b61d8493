"""The in-memory journal against the plain model that the embedded one is held to."""

from hypothesis import settings

from healer.ports import Store
from healer.testing.store import MemoryStore
from healer.testing.store_journal import MemoryJournal
from tests.store.test_sqlite_model import JournalMachine


class MemoryMachine(JournalMachine):
    """The same calls and the same comparison, on a journal in memory."""

    async def _open(self) -> Store:
        if not hasattr(self, "journal"):
            self.journal = MemoryJournal()
        return MemoryStore(self.journal, clock=self.clock, alone=True)


MemoryMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestMemoryJournal(MemoryMachine.TestCase):
    """Every random history of calls leaves the in-memory journal and the model in agreement."""
