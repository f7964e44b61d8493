"""Was it healed, by whom, and was it done right? Pure: two courses and a claim → a verdict."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from chaos.claim import Claim
from chaos.course import Action, Course

Status = Literal["passed", "failed", "void", "not run"]
Outcome = Literal["healed", "not healed", "void", "not run"]
Credit = Literal["healer", "kubernetes", "nobody", "not examined"]
#: The looks at the steady state are this far apart, at most; times are no finer. Seconds.
GRAIN_SECONDS = 1.5


@dataclass(frozen=True)
class Times:
    """Seconds after the fault; None: it did not happen."""

    deviated: float | None = None
    alert: float | None = None
    held: float | None = None
    released: float | None = None
    action: float | None = None
    killed: float | None = None
    returned: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Verdict:
    """The judgement of one experiment."""

    status: Status
    outcome: Outcome
    credit: Credit
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    times: Times = field(default_factory=Times)
    control: Times | None = None
    actions: tuple[str, ...] = ()


def not_run(reason: str) -> Verdict:
    """It did not run, for a stated reason."""
    return Verdict("not run", "not run", "not examined", (reason,))


def judge(claim: Claim, healing: Course, control: Course | None) -> Verdict:
    """The verdict; without a control run nobody is credited."""
    void = _void(claim, healing)
    if not void and claim.mid_action and not _died_mid_action(healing):
        void = "healer did not die between an intent and its outcome"
    compared = _void(claim, control) if control is not None else ""
    if control is not None and control.actions:
        compared = "healer acted although it was switched off"
    times = _times(claim, healing)
    beside = _times(claim, control) if control is not None else None
    done = tuple(f"{one.action} {one.target}" for one in healing.actions)
    if void or compared:
        why = [void] if void else []
        why += [f"control run: {compared}"] if compared else []
        outcome: Outcome = "void" if void else _outcome(claim, healing)
        return Verdict(
            "void", outcome, "not examined", tuple(why), healing.faults, times, beside, done
        )
    problems, remarks = _acts(claim, healing)
    outcome = _outcome(claim, healing)
    if outcome != "healed":
        problems.insert(0, _not_healed(claim, healing))
    credit = _credit(claim, healing, control)
    if credit == "kubernetes" and claim.credit == "healer":
        problems.append("the control run healed too, so the credit is Kubernetes'")
    if credit in {"healer", "nobody"} and claim.credit == "kubernetes":
        problems.append("the claim is that Kubernetes heals this alone, and it did not")
    remarks += healing.faults
    if control is not None:
        remarks += [f"control run: {text}" for text in control.faults]
    status: Status = "failed" if problems else "passed"
    return Verdict(status, outcome, credit, tuple(problems), tuple(remarks), times, beside, done)


def healed(claim: Claim, course: Course) -> bool:
    """Whether the steady state came back in time, and stayed."""
    if course.returned_at is None or course.fault_at is None:
        return False
    start = course.released_at or course.fault_at
    stays = course.ended_at - course.returned_at
    return (
        course.returned_at - start <= claim.within.heal
        and stays + GRAIN_SECONDS >= claim.within.stable
    )


def _outcome(claim: Claim, course: Course) -> Outcome:
    return "healed" if healed(claim, course) else "not healed"


def _void(claim: Claim, course: Course) -> str:
    """Why the run shows nothing; empty when it shows something."""
    if course.broken:
        return course.broken
    assert course.fault_at is not None
    if course.deviated_at is None:
        return "the steady state was never seen to deviate"
    if course.deviated_at - course.fault_at > claim.within.deviate + GRAIN_SECONDS:
        late = course.deviated_at - course.fault_at
        return f"it deviated only after {late:.0f} s: that need not be this fault's work"
    return ""


def _died_mid_action(course: Course) -> bool:
    """Whether healer was dead at a moment when an intent was written and its outcome was not."""
    if course.killed_at is None or course.dead_at is None:
        return False
    return any(
        one.intent_at <= course.dead_at
        and (one.outcome_at is None or one.outcome_at >= course.killed_at)
        for one in course.actions
    )


def _acts(claim: Claim, course: Course) -> tuple[list[str], list[str]]:
    problems: list[str] = []
    remarks: list[str] = []
    if claim.alert:
        problems += _alert(claim, course)
    due = [name for _, name in course.targets if name not in course.spared]
    problems += _matched(claim, course, due)
    if len(course.actions) > claim.budget:
        problems.append(f"{len(course.actions)} actions in all, the budget is {claim.budget}")
    problems += _audit(course)
    if claim.hold is not None:
        held, said = _held(claim, course)
        problems += held
        remarks += said
    if course.audit is None:
        remarks.append("the API server's audit log cannot be read here: actions are healer's word")
    return problems, remarks


def _alert(claim: Claim, course: Course) -> list[str]:
    at = _alert_at(claim, course)
    if at is None:
        return [f"{claim.alert} never fired for what was hit"]
    assert course.fault_at is not None
    after = at - course.fault_at
    if after > claim.within.detect:
        limit = claim.within.detect
        return [f"{claim.alert} fired after {after:.0f} s, {limit:.0f} s are the limit"]
    return []


def _alert_at(claim: Claim, course: Course) -> float | None:
    """When the alert fired: as seen in Prometheus, or as its own startsAt says, the earlier."""
    names = {name for _, name in course.targets}
    told = [
        float(episode["starts_at"])
        for episode in course.episodes
        if episode["labels"].get("alertname") == claim.alert
        and episode["labels"].get(claim.label) in names
    ]
    seen = [course.alert_at] if course.alert_at is not None else []
    return min([*told, *seen], default=None)


def _matched(claim: Claim, course: Course, due: list[str]) -> list[str]:
    """Exactly one matching action for each target that was healer's to heal, and none elsewhere."""
    kinds = {name: kind for kind, name in course.targets}
    problems = []
    counts: Counter[str] = Counter()
    for one in course.actions:
        right = one.name in due and one.kind == kinds[one.name]
        if claim.expects != "nothing" and right and one.action in claim.actions and not one.undo:
            counts[one.name] += 1
        elif claim.expects == "nothing":
            problems.append(f"needless action: {one.action} on {one.target}")
        else:
            what = "undo of " if one.undo else ""
            problems.append(f"an action that does not match: {what}{one.action} on {one.target}")
    if claim.expects != "nothing":
        wanted = " or ".join(claim.actions)
        problems += [
            f"{counts[name]} times {wanted} on {kinds[name]}/{name}, exactly one was due"
            for name in due
            if counts[name] != 1
        ]
    return problems


def _audit(course: Course) -> list[str]:
    """What the API server says of pods that healer removed, beside healer's own word."""
    if course.audit is None:
        return []
    removed: Counter[str] = Counter()
    for event in course.audit:
        if event["resource"] == "pods" and (
            event["verb"] == "delete" or event["subresource"] == "eviction"
        ):
            removed[event["name"]] += 1
    drained = any(kind == "Node" for kind, _ in course.targets)
    told = {one.name for one in course.actions if one.kind == "Pod"}
    return [
        f"the API server saw {count} removals of pod {name} by healer"
        for name, count in sorted(removed.items())
        if count > 1 or (not drained and name not in told)
    ]


def _held(claim: Claim, course: Course) -> tuple[list[str], list[str]]:
    assert claim.hold is not None
    problems: list[str] = []
    remarks: list[str] = []
    if course.released_at is None:
        return ["what held healer back was never taken away"], remarks
    early = [one for one in course.actions if one.intent_at < course.released_at]
    problems += [f"it did not hold: {one.action} on {one.target}" for one in early]
    reasons = set(claim.hold.reasons)
    held = {
        episode["labels"].get(claim.label)
        for episode in course.episodes
        if any(
            one["reason"] in reasons and one["at"] <= course.released_at for one in episode["held"]
        )
    }
    problems += [
        f"healer never said that it holds back because of {' or '.join(sorted(reasons))}: {name}"
        for _, name in course.targets
        if name not in held
    ]
    if claim.hold.pages is not None:
        if course.pages is None:
            remarks.append("pages cannot be seen from here, so they are not judged")
        elif len(course.pages) != claim.hold.pages:
            problems.append(f"{len(course.pages)} pages, {claim.hold.pages} were due")
    if claim.hold.at_once is not None:
        most = _at_once(course.actions)
        if most > claim.hold.at_once:
            problems.append(f"{most} actions under way at once, {claim.hold.at_once} are the limit")
    return problems, remarks


def _at_once(actions: tuple[Action, ...]) -> int:
    """How many were under way at the same time, at most: from the intent to the run's end."""
    spans = [(one.intent_at, one.run_finished_at or float("inf")) for one in actions]
    return max((sum(a <= start < b for a, b in spans) for start, _ in spans), default=0)


def _not_healed(claim: Claim, course: Course) -> str:
    assert course.fault_at is not None
    start = course.released_at or course.fault_at
    if course.returned_at is None:
        return f"the steady state did not come back within {claim.within.heal:.0f} s"
    after = course.returned_at - start
    if after > claim.within.heal:
        return f"it came back after {after:.0f} s, {claim.within.heal:.0f} s are the limit"
    return f"it came back, but was not seen to stay so for {claim.within.stable:.0f} s"


def _credit(claim: Claim, healing: Course, control: Course | None) -> Credit:
    if control is None:
        return "not examined"
    if healed(claim, control):
        return "kubernetes"
    if healed(claim, healing) and healing.actions:
        return "healer"
    return "nobody"


def _times(claim: Claim, course: Course) -> Times:
    if course.fault_at is None:
        return Times()
    zero = course.fault_at

    def after(at: float | None) -> float | None:
        return None if at is None else round(max(at - zero, 0.0), 2)

    return Times(
        deviated=after(course.deviated_at),
        alert=after(_alert_at(claim, course)) if claim.alert else None,
        held=after(course.held_at),
        released=after(course.released_at),
        action=after(course.actions[0].intent_at) if course.actions else None,
        killed=after(course.killed_at),
        returned=after(course.returned_at),
        ended=after(course.ended_at),
    )
