"""How long a workload's pods take to become ready: how far ahead its forecast must look."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from scalers.policy import READY_MARGIN_SECONDS, ScalingPolicy, Workload

#: The share of pods that a forecast waits for.
QUANTILE = 0.95
#: So many of the newest starts are looked at.
STARTS = 100
#: Where no start was seen. Seconds.
UNKNOWN_SECONDS = 60.0
#: A longer one is a pod that waited for something else: a node, a quota, a person. Seconds.
LONGEST_SECONDS = 1800.0


@dataclass(slots=True)
class _Starts:
    seen: dict[str, None] = field(default_factory=dict)
    took: deque[float] = field(default_factory=lambda: deque(maxlen=STARTS))


class TimesToReady:
    """What was seen of each workload's pods since this process began."""

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self._starts: dict[Workload, _Starts] = {}

    def saw(self, workload: Workload, became_ready: Iterable[tuple[str, float, float]]) -> None:
        """Pods that are ready: (uid, when, seconds from creation to ready); each counts once.

        A pod's later return to readiness is no start; the first look at it decides.
        """
        starts = self._starts.setdefault(workload, _Starts())
        now: dict[str, None] = {}
        for uid, _, took in became_ready:
            now[uid] = None
            if uid not in starts.seen and 0 <= took <= LONGEST_SECONDS:
                starts.took.append(took)
        # A pod that is not ready for a while is remembered as long as it may come back.
        for uid in list(starts.seen)[-STARTS:]:
            now.setdefault(uid)
        starts.seen = now

    def learned(self, workload: Workload) -> float | None:
        """The 0.95 quantile of the newest starts; None: none was seen. Seconds."""
        starts = self._starts.get(workload)
        if starts is None or not starts.took:
            return None
        return float(np.quantile(list(starts.took), QUANTILE))

    def lead(self, policy: ScalingPolicy) -> float:
        """How far ahead the policy's forecast looks. Seconds."""
        if policy.prediction is not None and policy.prediction.horizon_seconds is not None:
            return policy.prediction.horizon_seconds
        learned = self.learned(policy.workload)
        return (UNKNOWN_SECONDS if learned is None else learned) + READY_MARGIN_SECONDS
