"""What a series gets while it is young: the rungs from reactive scaling to the season of a week.

A rung is earned by history and by what that history shows: a load without a daily season stays on
`trend` however long it is known.
"""

from enum import StrEnum

from scalers.forecast.seasons import Seasons


class Rung(StrEnum):
    """What a forecast is made of."""

    REACTIVE = "reactive"  #: nothing: less than a day is known
    TREND = "trend"  #: level and trend; below two days with bands made wider
    DAY = "day"  #: the day's season; from eight days on the week's is tried
    WEEK = "week"  #: the week's season was shown by two of them


#: Days of history without which a rung is not stood on: one whole day, then two cycles each.
NEEDS_DAYS = {Rung.TREND: 1.0, Rung.DAY: 2.0, Rung.WEEK: 14.0}


def rung_of(found: Seasons) -> Rung:
    """The rung of a series of at least one day."""
    if found.week.shown:
        return Rung.WEEK
    return Rung.DAY if found.day.shown else Rung.TREND


def too_short(points: int, day: int) -> str:
    """Why nothing is forecast yet: what there is, and what the next rung needs."""
    need = NEEDS_DAYS[Rung.TREND] * 24.0
    hours = 24.0 * points / day
    return (
        f"{hours:.1f} hours of history; the rung {Rung.TREND} needs {need:.0f} "
        f"({max(need - hours, 0.1):.1f} more): only reactive scaling until then"
    )


def next_rung(points: int, day: int) -> str:
    """How much is known and what more history could bring; one sentence for people."""
    days = points / day
    for rung, need in NEEDS_DAYS.items():
        if days < need:
            return f"{days:.1f} days of history; the rung {rung} needs {need:g}"
    return f"{days:.1f} days of history; every rung can be stood on"
