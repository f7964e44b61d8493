"""What was missed and what was paid: seconds of violation, pod-seconds, scale actions."""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

#: An answer later than this, counted from when the request was due, is late. Seconds.
BOUND_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One request: when it was due, and how it went."""

    due: float  #: Unix seconds
    seconds: float  #: from when it was due until its answer or its end
    served: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at the cluster."""

    at: float
    wanted: int  #: replicas of the Deployment
    pods: int  #: that exist, ready or not: what is paid for
    ready: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one service over the run."""

    offered: int
    unserved: int
    violation_seconds: int
    p95_ms: float
    pod_seconds: float
    scale_actions: int


def violated(sent: Sequence[Sent], bound: float = BOUND_SECONDS) -> set[int]:
    """Seconds (of when requests were due) with one unserved, or with a p95 above the bound."""
    by_second: defaultdict[int, list[Sent]] = defaultdict(list)
    for one in sent:
        by_second[int(one.due)].append(one)
    return {
        second
        for second, all_due in by_second.items()
        if any(not one.served for one in all_due) or _p95(all_due) > bound
    }


def judge(sent: Sequence[Sent], seen: Sequence[Seen]) -> Outcome:
    """All figures; raises ValueError when nothing was offered or nobody looked twice."""
    if not sent or len(seen) < 2:
        raise ValueError(f"{len(sent)} requests and {len(seen)} looks are no run; see the logs")
    pairs = list(itertools.pairwise(seen))
    return Outcome(
        offered=len(sent),
        unserved=sum(not one.served for one in sent),
        violation_seconds=len(violated(sent)),
        p95_ms=round(1000 * _p95(sent), 1),
        pod_seconds=round(sum(one.pods * (other.at - one.at) for one, other in pairs), 1),
        scale_actions=sum(one.wanted != other.wanted for one, other in pairs),
    )


def _p95(sent: Sequence[Sent]) -> float:
    ordered = sorted(one.seconds for one in sent)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
