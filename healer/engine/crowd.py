"""Who takes a place in a zone or workload between the guards' look and the intent on disk.

The guards count the runs that the journal says are under way. Many episodes that are driven at the
same time would all be counted before any of them is in the journal; here each takes its place
before its intent is written, so that together they are never more than there is room for.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from healer.domain.storm import Room


@dataclass(slots=True, eq=False)
class _Place:
    keys: frozenset[str]
    written: int | None = None  #: number of the moment from which the journal counts it itself


class Crowded(Exception):
    """There is no room now; nothing was taken."""

    def __init__(self, room: Room, taken: int) -> None:
        super().__init__(f"{taken} of {room.capacity} allowed at once in {room.key} are under way")


class Crowd:
    """The places taken by this process. Nothing in it awaits, so nobody comes in between."""

    def __init__(self) -> None:
        self._number = 0
        self._looks: list[int] = []
        self._places: list[_Place] = []

    @contextmanager
    def looking(self) -> Iterator[int]:
        """From before the journal is looked at until what it said has been acted on."""
        self._number += 1
        number = self._number
        self._looks.append(number)
        try:
            yield number
        finally:
            self._looks.remove(number)
            oldest = min(self._looks, default=self._number + 1)
            self._places = [p for p in self._places if p.written is None or p.written > oldest]

    @contextmanager
    def place(self, rooms: Sequence[Room], look: int) -> Iterator[None]:
        """Take a place in each room for as long as the intent is being written.

        `look` is the number of the look that counted the rooms. Raises Crowded. What raises inside
        gives the place back.
        """
        for room in rooms:
            taken = room.in_flight + sum(
                room.key in place.keys and (place.written is None or place.written > look)
                for place in self._places
            )
            if taken >= room.capacity:
                raise Crowded(room, taken)
        mine = _Place(frozenset(room.key for room in rooms))
        self._places.append(mine)
        try:
            yield
        except BaseException:
            self._places.remove(mine)
            raise
        self._number += 1
        mine.written = self._number
