"""Budgets are token buckets that survive a restart: how much may be disrupted, and how fast."""

from dataclasses import dataclass

from healer.domain.plan import Plan, PlannedStep
from healer.domain.playbook import DEFAULT_BUDGETS, Rate, Scope


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left in one bucket as of `at`."""

    tokens: float
    at: float


@dataclass(frozen=True, slots=True)
class Spend:
    """A demand on one bucket: `cost` tokens of what `rate` grants, counted under `key`."""

    key: str  #: `scope/name`, e.g. `zone/eu-1a`
    scope: Scope
    cost: int
    rate: Rate


@dataclass(frozen=True, slots=True)
class Short:
    """The bucket that cannot pay, and when it could."""

    spend: Spend
    until: float


def level(bucket: Bucket | None, rate: Rate, now: float) -> float:
    """Tokens in the bucket at `now`: full when it was never used, never above `rate.count`.

    A clock that went backwards refills nothing.
    """
    if bucket is None:
        return float(rate.count)
    gained = max(0.0, now - bucket.at) * rate.count / rate.per_seconds
    return min(float(rate.count), bucket.tokens + gained)


def take(bucket: Bucket | None, spend: Spend, now: float) -> Bucket | Short:
    """The bucket after paying, or what is short. A cost above the whole bucket is never payable."""
    tokens = level(bucket, spend.rate, now)
    if tokens >= spend.cost:
        return Bucket(tokens - spend.cost, now)
    if spend.cost > spend.rate.count:
        return Short(spend, float("inf"))
    missing = spend.cost - tokens
    return Short(spend, now + missing * spend.rate.per_seconds / spend.rate.count)


def canary(plan: Plan) -> Spend:
    """What the one run costs that a half-open breaker lets through.

    Paid in the transaction of its first disruptive intent, so that of many that ask at once, on
    any replica, exactly one passes; full again when the breaker could be half open the next time.
    """
    rate = Rate(1, plan.guards.breaker_seconds)
    return Spend(f"canary/{plan.playbook}", Scope.PLAYBOOK, 1, rate)


def spends(plan: Plan, step: PlannedStep) -> tuple[Spend, ...]:
    """Every bucket that `step` draws on; a step without disruption draws on none.

    A scope the playbook does not mention falls back to `DEFAULT_BUDGETS`: missing is strict. A
    playbook with a rate of its own draws on a bucket of that rate, so that two playbooks never
    refill each other's; a stricter one also draws on the default bucket that others draw on.
    """
    if step.cost == 0:
        return ()
    names = (
        (Scope.TARGET, str(step.target)),
        (Scope.OWNER, str(plan.lock)),
        (Scope.PLAYBOOK, plan.playbook),
        (Scope.ACTION_CLASS, step.action_class),
        (Scope.NAMESPACE, plan.namespace),
        (Scope.ZONE, plan.zone),
        (Scope.CLUSTER, "cluster"),
    )
    budgets = plan.guards.budgets
    found: list[Spend] = []
    for scope, name in names:
        if not name:
            continue
        key, default = f"{scope.value}/{name}", DEFAULT_BUDGETS[scope]
        rate = budgets.get(scope, default)
        if rate is not default and rate != default:
            own = f"{key}@{rate.count}/{rate.per_seconds:g}"
            found.append(Spend(own, scope, step.cost, rate))
        if not _looser(rate, default):
            found.append(Spend(key, scope, step.cost, default))
    return tuple(found)


def _looser(rate: Rate, than: Rate) -> bool:
    """Whether `rate` grants more, at once or over time."""
    return rate.count > than.count or (
        rate.count / rate.per_seconds > than.count / than.per_seconds
    )
