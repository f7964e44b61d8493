"""From the checked shape of a file to the domain's frozen playbook."""

from healer.domain.playbook import (
    DEFAULT_BUDGETS,
    Condition,
    ConditionLanguage,
    ErrorBudget,
    Escalation,
    Guards,
    Playbook,
    ProbeRule,
    StepRule,
    TargetRule,
    Trigger,
    TriggerKind,
    VerifyRule,
    Window,
)
from healer.playbook_yaml.model import (
    GuardsShape,
    PlaybookShape,
    StepShape,
    TargetShape,
    UnlessShape,
    VerifyShape,
    WhenShape,
    WindowShape,
)
from healer.playbook_yaml.scalars import DAYS


def build(shape: PlaybookShape, *, sha256: str, source: str, text: str) -> Playbook:
    """The playbook. `shape` must have passed `healer.playbook_yaml.checks`."""
    spec = shape.spec
    return Playbook(
        name=shape.metadata.name,
        summary=spec.summary,
        trigger=_trigger(spec.when),
        target=_target(spec.target),
        steps=tuple(_step(step) for step in spec.steps),
        guards=_guards(spec.guards),
        escalation=Escalation(
            spec.escalate.severity, tuple(spec.escalate.notify), spec.escalate.summary
        ),
        mode=spec.mode,
        priority=spec.priority,
        not_when=spec.not_when,
        sha256=sha256,
        source=source,
        text=text,
    )


def _trigger(when: WhenShape) -> Trigger:
    if when.alert is not None:
        return Trigger(TriggerKind.ALERT, matchers=when.alert)
    if when.query is not None:
        return Trigger(
            TriggerKind.QUERY,
            expr=when.query.expr,
            for_seconds=when.query.for_,
            every_seconds=when.query.every,
            labels=dict(when.query.labels),
        )
    assert when.condition is not None  # checks.py: exactly one of the three
    return Trigger(
        TriggerKind.CONDITION,
        condition_kind=when.condition.kind,
        reason=when.condition.reason,
        for_seconds=when.condition.for_,
        namespaces=tuple(when.condition.namespaces),
        labels=dict(when.condition.labels),
    )


def _target(target: TargetShape) -> TargetRule:
    return TargetRule(
        kind=target.kind,
        name=target.name,
        namespace=target.namespace or "",
        owner=target.owner,
        owner_kinds=tuple(target.owner_kinds),
    )


def _step(step: StepShape) -> StepRule:
    return StepRule(
        name=step.name,
        action=step.action,
        params=dict(step.with_),
        verify=_verify(step.verify) if step.verify else None,
        condition=step.if_ or "",
        undo=step.undo,
        on_unknown=step.on_unknown,
        timeout_seconds=step.timeout,
        target=_target(step.target) if step.target else None,
    )


def _verify(verify: VerifyShape) -> VerifyRule:
    probes = [(name, params) for probe in verify.probes for name, params in probe.items()]
    return VerifyRule(
        probes=tuple(ProbeRule(name, dict(params or {})) for name, params in probes),
        within_seconds=verify.within,
        every_seconds=verify.every,
        stable_for_seconds=verify.stable_for,
    )


def _guards(guards: GuardsShape) -> Guards:
    budget = guards.error_budget
    return Guards(
        cooldown_seconds=guards.cooldown,
        budgets={**DEFAULT_BUDGETS, **guards.budgets},
        min_healthy_ratio=guards.min_healthy,
        storm_ratio=guards.storm.ratio,
        storm_minimum=guards.storm.minimum,
        max_in_flight=guards.storm.max_in_flight,
        unless=tuple(_unless(condition) for condition in guards.unless),
        windows=tuple(_window(window) for window in guards.windows),
        error_budget=ErrorBudget(budget.expr, budget.minimum) if budget else None,
        max_age_seconds=guards.max_age,
        approval_ttl_seconds=guards.approval_ttl,
        allow_during_rollout=guards.allow_during_rollout,
        allow_gitops_managed=guards.allow_gitops_managed,
        allow_hpa_managed=guards.allow_hpa_managed,
        breaker_failures=guards.breaker.failures,
        breaker_seconds=guards.breaker.for_,
    )


def _unless(condition: UnlessShape) -> Condition:
    if condition.cel is not None:
        return Condition(ConditionLanguage.CEL, condition.cel, condition.because)
    return Condition(
        ConditionLanguage.PROMQL, condition.promql or "", condition.because, condition.where
    )


def _window(window: WindowShape) -> Window:
    return Window(
        days=tuple(sorted({DAYS.index(day) for day in window.days})),
        start_minute=window.from_,
        end_minute=window.to,
        freeze=window.freeze,
        because=window.because,
    )
