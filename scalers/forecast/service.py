"""The forecast of one series over its life: refreshed each step, judged by what came true."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from scalers.forecast.buckets import column_bucket, edges
from scalers.forecast.calibration import Calibration
from scalers.forecast.ensemble import Learned, TooShortError, learn, predict
from scalers.forecast.ladder import Rung
from scalers.forecast.pool import YARDSTICK
from scalers.series import Floats, Series

#: How long a choice of models and their fits are used. Seconds.
REFIT_SECONDS = 6 * 3600.0
#: With a skill below this the forecast is worse than yesterday's load: only reactive scaling.
LEAST_SKILL = -0.10
#: Quantiles that every forecast carries, for people, gauges and coverage.
QUANTILES = (0.5, 0.8, 0.9, 0.95)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Demand ahead: element i is the value `(i + 1) * step` after `at`, in the series' unit."""

    at: float  #: the last point known, Unix seconds
    step: float  #: seconds
    quantiles: Mapping[float, tuple[float, ...]]  #: never negative, never below a lower quantile
    members: Mapping[str, float]  #: models and weights an hour ahead
    skill: float  #: against the yardstick; below `LEAST_SKILL` it is not to be served
    rung: Rung = Rung.DAY  #: what it could be made of: the age of the series and its seasons
    yardstick: str = YARDSTICK  #: yesterday's load; the last value where days do not repeat

    @property
    def degraded(self) -> bool:
        """Whether it is clearly worse than its yardstick."""
        return self.skill < LEAST_SKILL

    def highest(self, quantile: float, seconds: float) -> float:
        """The largest value of the quantile within `seconds` from `at`, at least one step."""
        path = self.quantiles[quantile]
        reach = min(len(path), max(1, int(np.ceil(seconds / self.step))))
        return max(path[:reach])


@dataclass(slots=True)
class _Pending:
    due: float  #: time of the point that judges it, Unix seconds
    bucket: int
    given: dict[float, float]  #: quantile → value


@dataclass(slots=True)
class SeriesForecaster:
    """State of one series: what was learned, how it is calibrated, what is yet to be judged.

    `refit` takes some hundred milliseconds and belongs into a worker process; `refresh` a few.
    """

    steps: int
    serving: float = 0.9  #: quantile the models are ranked at
    learned: Learned | None = None
    calibration: Calibration = field(default_factory=Calibration)
    centre: tuple[float, ...] = ()  #: the last forecast's middle, before any margin
    _pending: deque[_Pending] = field(default_factory=deque)

    def due(self, series: Series) -> bool:
        """Whether a refit is due."""
        return self.learned is None or series.end - self.learned.fitted_at >= REFIT_SECONDS

    def refit(self, series: Series) -> None:
        """Choose and fit again. Raises TooShortError, changing nothing."""
        self.learned = learn(series, self.steps, self.serving, before=self.learned)

    def refresh(self, series: Series) -> Forecast:
        """The forecast from the end of `series`; first judges the earlier ones by it.

        Raises TooShortError when nothing was learned yet.
        """
        if self.learned is None:
            raise TooShortError("nothing was learned of this series yet")
        self._judge(series)
        centre = predict(self.learned, series)[0]
        self.centre = tuple(centre.tolist())
        quantiles = self._quantiles(self.learned, centre, series.day)
        for bucket, (_, last) in enumerate(edges(self.steps, series.day)):
            given = {quantile: path[last - 1] for quantile, path in quantiles.items()}
            self._pending.append(_Pending(series.end + last * series.step, bucket, given))
        hour = edges(min(self.steps, series.day // 24), series.day)
        return Forecast(
            series.end, series.step, quantiles, self.learned.weights[len(hour) - 1],
            self.learned.skill, self.learned.rung, self.learned.yardstick,
        )  # fmt: skip

    def _quantiles(
        self, learned: Learned, centre: Floats, day: int
    ) -> dict[float, tuple[float, ...]]:
        columns = column_bucket(self.steps, day)
        floor = np.zeros(self.steps)
        out = {}
        for quantile in QUANTILES:
            margin = self.calibration.margins(learned.residuals, columns, quantile)
            floor = np.maximum(floor, centre + margin)  # quantiles never cross
            out[quantile] = tuple(floor.tolist())
        return out

    def _judge(self, series: Series) -> None:
        waiting: deque[_Pending] = deque()
        for pending in self._pending:
            if pending.due > series.end:
                waiting.append(pending)
                continue
            index = round((pending.due - series.start) / series.step)
            if index < 0 or not series.taught[index]:
                continue  # an outage or a gap judges nobody
            for quantile, value in pending.given.items():
                self.calibration.outcome(
                    pending.bucket, quantile, covered=bool(series.values[index] <= value)
                )
        self._pending = waiting

    def to_state(self) -> bytes:
        """Everything, as JSON."""
        return msgspec.json.encode(
            {
                "version": 1, "steps": self.steps, "serving": self.serving,
                "learned": self.learned, "calibration": self.calibration.to_state(),
                "pending": [
                    [p.due, p.bucket, [[q, v] for q, v in p.given.items()]] for p in self._pending
                ],
            }
        )  # fmt: skip

    @classmethod
    def from_state(cls, state: bytes) -> "SeriesForecaster":
        """The inverse of `to_state`. Raises ValueError for anything else."""
        try:
            found = msgspec.json.decode(state)
            if found["version"] != 1:
                raise ValueError(f"version {found['version']}")  # noqa: TRY301 - one way out
            learned = msgspec.convert(found["learned"], Learned | None)
            pending: Sequence[tuple[float, int, list[tuple[float, float]]]] = found["pending"]
            return cls(
                found["steps"], found["serving"], learned,
                Calibration.from_state(found["calibration"]), (),
                deque(_Pending(due, bucket, dict(given)) for due, bucket, given in pending),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise ValueError(f"not the state of a forecaster: {error}") from error
