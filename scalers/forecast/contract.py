"""What every model of the pool can do: fit once, then predict from any later point for little."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from scalers.series import Floats

#: What a fit learned: plain numbers and lists of them, so that it survives a restart.
Parameters = Mapping[str, float | list[float]]


class Forecaster(Protocol):
    """A model of one series. It holds no state: everything it learned is in its parameters.

    `day` is the number of points in a day, `values` the cleaned series (n,), oldest first.
    """

    @property
    def name(self) -> str:
        """What it is called in reports and weights."""
        ...

    def needs(self, day: int) -> int:
        """Points of history without which the model is not asked."""
        ...

    def fit(self, values: Floats, day: int) -> Parameters:
        """Learn from all of `values`. May take tens of milliseconds; never called on a loop."""
        ...

    def predict(
        self, learned: Parameters, values: Floats, origins: Sequence[int], steps: int, day: int
    ) -> Floats:
        """Forecasts of the `steps` points from each origin on, knowing `values[:origin]` alone.

        Shape (len(origins), steps). An origin is at least `needs(day)` and at most len(values).
        """
        ...


def number(learned: Parameters, name: str) -> float:
    """The parameter as a number. Raises TypeError when it is a list."""
    value = learned[name]
    if isinstance(value, list):
        raise TypeError(f"{name} is a list, not a number")
    return value
