"""Health conditions: what a person should mend, held while it was seen lately."""

from dataclasses import dataclass

from healer.kernel.clock import Clock

#: A condition that was not seen again for this long is over. Seconds.
HELD_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is wrong, when it was seen last, and what to do."""

    name: str
    detail: str
    at: float  #: Unix seconds
    count: int  #: how often since it began


#: Every condition there is; each is a value of the `condition` label of `healer_condition`.
CONDITIONS = (
    "webhook_unauthorized",
    "webhook_malformed",
    "webhook_too_large",
    "webhook_rejected_alerts",
    "webhook_truncated",
    "webhook_overloaded",
    "store_unavailable",
    "playbooks_rejected",
    "scaling_policies_rejected",
    "scaling_source_unavailable",
    "scaling_cluster_unavailable",
    "metrics_api_stopped",
)


class Conditions:
    """What is wrong now. Raising the same again keeps it; silence ends it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[Condition, float]] = {}

    def hold(self, name: str, detail: str) -> bool:
        """`name` was just seen; whether that is news."""
        before = self._held.get(name)
        count = before[0].count + 1 if before and self._fresh(before[1]) else 1
        self._held[name] = (
            Condition(name, detail, self._clock.now(), count),
            self._clock.monotonic(),
        )
        return count == 1

    def clear(self, name: str) -> None:
        """`name` is over."""
        self._held.pop(name, None)

    def active(self) -> list[Condition]:
        """What is wrong now, by name."""
        return sorted(
            (condition for condition, at in self._held.values() if self._fresh(at)),
            key=lambda condition: condition.name,
        )

    def _fresh(self, at: float) -> bool:
        return self._clock.monotonic() - at <= HELD_SECONDS
