"""One Lease in memory, and any number of seats from which it is reached, each with its troubles."""

import asyncio
from dataclasses import replace

from healer.errors import Conflict, HealerError, NotFound
from healer.ports import LeaseRecord


class FakeLease:
    """The object as the API server keeps it."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self._versions = 0

    def seat(self) -> "Seat":
        """One replica's way to it."""
        return Seat(self)

    def put(self, record: LeaseRecord) -> LeaseRecord:
        """Store a new version."""
        self._versions += 1
        self.record = replace(record, version=str(self._versions))
        return self.record

    def delete(self) -> None:
        """Somebody deletes it."""
        self.record = None


class Seat:
    """Implements `healer.ports.Leases`."""

    def __init__(self, lease: FakeLease) -> None:
        self._lease = lease
        self.down: HealerError | None = None  #: every call fails with this, having done nothing
        self.lost: HealerError | None = None  #: every write is done, and its answer lost
        self.open = asyncio.Event()  #: while clear, every call hangs
        self.open.set()
        self.calls = 0

    async def get(self) -> LeaseRecord:
        """A fresh look. Raises NotFound."""
        await self._enter()
        if self._lease.record is None:
            raise NotFound("there is no Lease")
        return self._lease.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        """Store it; raises Conflict when there is one."""
        await self._enter()
        if self._lease.record is not None:
            raise Conflict("there is a Lease")
        return self._answer(self._lease.put(record))

    async def update(self, record: LeaseRecord) -> LeaseRecord:
        """Replace exactly that version. Raises Conflict or NotFound."""
        await self._enter()
        if self._lease.record is None:
            raise NotFound("there is no Lease")
        if self._lease.record.version != record.version:
            raise Conflict("the Lease has been modified")
        return self._answer(self._lease.put(record))

    async def _enter(self) -> None:
        self.calls += 1
        await self.open.wait()
        if self.down is not None:
            raise self.down

    def _answer(self, record: LeaseRecord) -> LeaseRecord:
        if self.lost is not None:
            raise self.lost
        return record
