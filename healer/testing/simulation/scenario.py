"""What happens in one history, drawn from its seed: the size of the world, its troubles, when."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from healer.domain.alert import parse_matchers
from healer.domain.playbook import (
    Guards,
    OnUnknown,
    Playbook,
    ProbeRule,
    Rate,
    Scope,
    StepRule,
    TargetRule,
    Trigger,
    TriggerKind,
    UndoRule,
    VerifyRule,
)
from healer.domain.target import Kind
from healer.testing.builders import a_playbook
from healer.testing.simulation.alertmanager import Route
from healer.testing.simulation.lines import Trouble
from healer.testing.simulation.model import Nature
from healer.testing.simulation.rules import CRASHING, NOT_READY, STUCK

ALWAYS = "http://controller.shop/restart"
ONCE = "http://controller.shop/restart-once"
LINES = ("journal", "cluster", "alerts", "metrics", "pager")

#: Things that befall the world, and those that befall healer itself.
WORLDLY = (
    "crash", "crash", "crash", "hang", "hang", "node", "zone", "release", "mend", "scale", "storm",
)  # fmt: skip
OWN = ("kill", "suspend", "cut", "cut", "blind", "pause", "jump", "peers apart", "deaf", "errors")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that befalls somebody."""

    at: float  #: virtual seconds from the beginning
    what: str
    seconds: float = 0.0  #: how long it lasts, where it lasts
    roll: float = 0.0  #: chooses whom


@dataclass(slots=True)
class Scenario:
    """One history before it happens."""

    seed: int
    replicas: int
    peers: int
    workloads: Sequence[tuple[str, int]]
    playbooks: tuple[Playbook, ...]
    events: tuple[Event, ...]
    seconds: float  #: how long trouble may last
    nature: Nature
    route: Route
    trouble: Mapping[str, Trouble]
    metrics: bool
    moving: float
    skew: float
    late: float  #: share of deliveries that arrive late


def _verify(seconds: float) -> VerifyRule:
    return VerifyRule((ProbeRule("workload_ready", {}),), seconds, 15.0, 20.0)


def _guards(dice: Random) -> Guards:
    return Guards(
        cooldown_seconds=dice.choice((60.0, 300.0, 900.0)),
        budgets={
            Scope.TARGET: Rate(2, 3600.0), Scope.OWNER: Rate(dice.choice((1, 2, 4)), 3600.0),
            Scope.PLAYBOOK: Rate(10, 3600.0), Scope.ACTION_CLASS: Rate(20, 3600.0),
            Scope.NAMESPACE: Rate(dice.choice((3, 10)), 3600.0),
            Scope.ZONE: Rate(dice.choice((2, 10)), 3600.0), Scope.CLUSTER: Rate(20, 3600.0),
        },
    )  # fmt: skip


def _playbook(
    name: str, alert: str, target: TargetRule, guards: Guards, *steps: StepRule
) -> Playbook:
    trigger = Trigger(TriggerKind.ALERT, parse_matchers(f'alertname="{alert}"'))
    return a_playbook(name, trigger=trigger, target=target, guards=guards, steps=steps)


def playbooks(dice: Random) -> tuple[Playbook, ...]:
    """One remedy for each alert, drawn: single steps, ladders, requests never to be repeated."""
    pod = TargetRule(Kind.POD, "${labels.pod}", "${labels.namespace}")
    deployment = TargetRule(Kind.DEPLOYMENT, "${labels.deployment}", "${labels.namespace}")
    owner = replace(pod, owner=True)
    verify = _verify(dice.choice((60.0, 120.0, 300.0)))
    delete = StepRule("replace the pod", "delete_pod", {}, verify=verify)
    evict = StepRule("evict the pod", "evict_pod", {}, verify=verify)
    restart = StepRule("restart", "restart_rollout", {}, verify=verify)
    wait = StepRule("wait", "wait", {"for": "20s"}, timeout_seconds=60.0)
    # Who may be asked again is a server that knows the key; the other one does it each time.
    again = dice.random() < 0.4
    call = StepRule(
        "tell the owner's controller", "http_call", {"url": ONCE if again else ALWAYS},
        verify=verify, on_unknown=OnUnknown.RETRY if again else OnUnknown.ESCALATE,
    )  # fmt: skip
    undo = StepRule("undo the rollout", "undo_rollout", {}, verify=_verify(180.0))
    restart_first = replace(restart, undo=dice.choice((UndoRule.NEVER, UndoRule.IF_NOT_RECOVERED)))
    crashing = dice.choice(((delete,), (call, delete), (wait, delete), (delete, call)))
    not_ready = dice.choice(((evict,), (delete,), (call,)))
    stuck = dice.choice(((undo,), (restart_first, undo)))
    rolling = replace(_guards(dice), allow_during_rollout=True)
    return (
        _playbook("replace", CRASHING, pod, _guards(dice), *crashing),
        _playbook("revive", NOT_READY, pod, _guards(dice), *not_ready)
        if dice.random() < 0.7
        else _playbook("revive", NOT_READY, owner, _guards(dice), restart),
        _playbook("undo", STUCK, deployment, rolling, *stuck),
    )


@dataclass(slots=True)
class _Kit:
    """Draws the parts of a scenario."""

    dice: Random
    level: float = field(init=False)

    def __post_init__(self) -> None:
        self.level = self.dice.choice((0.0, 0.01, 0.03, 0.08))

    def trouble(self) -> dict[str, Trouble]:
        """What goes wrong with single calls."""
        dice, level = self.dice, self.level
        crash = dice.choice((0.0, 0.0, 0.004, 0.015)) if level else 0.0
        freeze = dice.choice((0.0, 0.0, 0.005, 0.02)) if level else 0.0
        return {
            name: Trouble(
                crash=crash if name in {"journal", "cluster", "pager"} else 0.0,
                freeze=freeze if name in {"journal", "cluster"} else 0.0,
                before=level * dice.random(),
                after=level * dice.random() if name != "metrics" else 0.0,
                slow=level * dice.random() * 2,
                slow_seconds=dice.choice((1.0, 5.0, 20.0)),
                stale=0.2 if name == "cluster" and dice.random() < 0.3 else 0.0,
                conflict=0.3 if name == "cluster" and dice.random() < 0.3 else 0.0,
            )
            for name in LINES
        }

    def events(self, seconds: float) -> tuple[Event, ...]:
        """What befalls whom, in order."""
        dice = self.dice
        count = dice.choice((1, 1, 2, 3, 5))
        worldly = [self._event(dice.choice(WORLDLY), seconds) for _ in range(count)]
        own = [self._event(dice.choice(OWN), seconds) for _ in range(dice.choice((0, 1, 2, 4, 6)))]
        return tuple(sorted((*worldly, *own), key=lambda event: event.at))

    def _event(self, what: str, seconds: float) -> Event:
        dice = self.dice
        lasts = dice.choice((5.0, 20.0, 45.0, 90.0, 300.0))
        # What befalls the world comes early enough to be healed while trouble lasts.
        part = 0.5 if what in WORLDLY else 1.0
        return Event(dice.random() * seconds * part, what, lasts, dice.random())


def draw(seed: int, books: Callable[[Random], tuple[Playbook, ...]] = playbooks) -> Scenario:
    """The scenario of a seed."""
    dice = Random(seed)  # noqa: S311 - a seed, no secret
    kit = _Kit(dice)
    seconds = dice.choice((300.0, 400.0, 600.0, 600.0, 900.0, 1800.0))
    names = ("web", "api", "cart")[: dice.choice((1, 1, 2, 3))]
    return Scenario(
        seed=seed,
        replicas=dice.choice((1, 1, 2, 2, 3)),
        peers=dice.choice((1, 2, 2, 3)),
        workloads=tuple((name, dice.choice((2, 3, 3, 6))) for name in names),
        playbooks=books(dice),
        events=kit.events(seconds),
        seconds=seconds,
        nature=Nature(
            start_seconds=dice.choice((1.0, 5.0, 15.0)),
            slow_start=dice.choice((0.0, 0.1, 0.3)),
            sick_again=dice.choice((0.0, 0.2, 0.7)),
            never_start=dice.choice((0.0, 0.0, 0.0, 0.1)),
        ),
        route=Route(
            group_wait=dice.choice((1.0, 10.0, 30.0)),
            group_interval=dice.choice((30.0, 60.0, 300.0)),
            repeat_interval=dice.choice((300.0, 1200.0)),
            max_alerts=dice.choice((0, 0, 0, 2)),
        ),
        trouble=kit.trouble(),
        metrics=dice.random() < 0.5,
        moving=dice.choice((0.0, 0.0, 0.1)),
        skew=dice.choice((0.0, 0.0, 0.5)),
        late=dice.choice((0.0, 0.0, 0.2)),
    )
