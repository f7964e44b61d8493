"""Words for people: what is said when healer is held back, asks, fails, or gives the all-clear.

Every notice says what fires, what was tried and seen, and what the reader can do next. A message's
id is derived from what it says, so a restart or another replica never says it twice.
"""

from collections.abc import Collection, Mapping
from typing import Any

from healer.domain.episode import Episode, EpisodeState
from healer.domain.message import Notice, NoticeEvent, Severity
from healer.domain.outcome import Outcome, Result
from healer.domain.run import Run
from healer.domain.storm import Flow
from healer.domain.verdict import Reason
from healer.engine.world import World
from healer.kernel.clock import rfc3339
from healer.planning import worded
from healer.ports import EpisodeFilter, Message

#: Refusals that a person asked for, or that nobody needs to be told of.
SILENT = frozenset({
    Reason.OBSERVE_ONLY, Reason.NO_PLAYBOOK, Reason.APPROVAL_REJECTED, Reason.TARGET_GONE,
    Reason.TARGET_CHANGED, Reason.NOT_FIRING,
})  # fmt: skip
_SEVERITIES = {severity.value: severity for severity in Severity}


def failed(world: World, episode: Episode, run: Run, now: float) -> tuple[Message, ...]:
    """The ladder ended without recovery: page with everything that was tried.

    A run that only had to tell, and did so with a `notify` step, has said it all.
    """
    said = any(
        run.plan.steps[r.step].action_class == "notify" and r.outcome is Outcome.APPLIED
        for r in run.steps
    )
    if run.result is Result.TOLD and said:
        return ()
    return _to_channels(world, episode, run, _failure(world, episode, run, now))


def _failure(world: World, episode: Episode, run: Run, now: float) -> Notice:
    tried = [
        f"{record.key}: {run.plan.steps[record.step].action}"
        f"{' (undo)' if record.undo else ''} → {record.outcome or 'unknown'}. {record.detail}"
        for record in run.steps
    ]
    return _notice(
        world, episode, run, now,
        key=f"{episode.id}/failed",
        title=f"{_FAILED.get(run.result, 'Not healed')}: {episode.name} on {run.plan.target}",
        text="\n".join((
            *_summary(world, episode, run),
            f"{run.plan.playbook} ended with {run.reason or Reason.ESCALATED}: {episode.detail}",
            "Tried:", *(tried or ["nothing"]),
            f"See: healer explain {episode.id}",
        )),
        evidence={f"step {number}": line for number, line in enumerate(tried, 1)},
    )  # fmt: skip


#: What only tells does not fail to heal.
_FAILED: Mapping[Result | None, str] = {Result.TOLD: "For a person"}


async def still_open(world: World) -> list[Notice]:
    """The failures a person was told of and that are not over, from the journal."""
    which = EpisodeFilter(states=(EpisodeState.ESCALATED,), limit=1000)
    return [
        _failure(world, episode, run, run.finished_at or episode.updated_at)
        for episode in await world.store.episodes(which)
        for run in await world.store.runs(episode.id, limit=1)
    ]


def refused(
    world: World, episode: Episode, run: Run | None, reason: Reason, detail: str, now: float
) -> tuple[Message, ...]:
    """Nothing will be done by itself: a person has to."""
    notice = _notice(
        world, episode, run, now,
        key=f"{episode.id}/refused",
        title=f"Left alone: {episode.name} on {episode.target or 'an unknown target'}",
        text=f"{reason}: {detail}\nNothing was done. See: healer explain {episode.id}",
        reason=reason,
    )  # fmt: skip
    return _to_channels(world, episode, run, notice)


def held(
    world: World, episode: Episode, run: Run | None, flow: Flow | None, now: float
) -> tuple[Message, ...]:
    """Held back for long. A storm is told once for its zone, not once for each of its pods."""
    reason = episode.reason or Reason.BLIND
    key = f"{episode.id}/held/{reason}"
    if run is not None and reason is Reason.ZONE_DEGRADED:
        began = flow.held_at if flow is not None and flow.held_at is not None else now
        key = f"zone/{run.plan.zone}/held/{int(began)}"
    elif run is not None and reason is Reason.OWNER_DEGRADED:
        key = f"{run.plan.lock}/held/{int(now // 3600)}"
    notice = _notice(
        world, episode, run, now,
        key=key,
        title=f"Holding back: {reason} ({episode.name})",
        text=(
            f"{episode.detail}\nhealer waits and looks again; nothing was done to "
            f"{episode.target}. See: healer explain {episode.id}"
        ),
        reason=reason,
    )  # fmt: skip
    return _to_channels(world, episode, run, notice)


def approval_wanted(
    world: World, episode: Episode, run: Run, until: float, now: float
) -> tuple[Message, ...]:
    """A plan waits for a person's yes."""
    steps = [f"{s.index + 1}. {s.name}: {s.action} on {s.target}" for s in run.plan.steps]
    notice = _notice(
        world, episode, run, now,
        key=f"{episode.id}/approval/{run.plan.digest[:12]}",
        title=f"May I? {run.plan.playbook} on {run.plan.target}",
        text="\n".join((
            *steps,
            f"Until {rfc3339(until)}: healer approve {episode.id}, or healer reject {episode.id}",
        )),
        severity=Severity.WARNING,
        reason=Reason.APPROVAL_NEEDED,
    )  # fmt: skip
    return _to_channels(world, episode, run, notice)


def said(
    world: World, episode: Episode, run: Run, evidence: Mapping[str, Any], now: float
) -> tuple[Message, ...]:
    """What a `notify` step wants said, queued in the transaction of its outcome."""
    wish = evidence.get("notify")
    if not isinstance(wish, Mapping):
        return ()
    notice = _notice(
        world, episode, run, now,
        key=str(wish["id"]),
        title=f"{episode.name} on {run.plan.target}",
        text=str(wish["summary"]),
        severity=_SEVERITIES.get(str(wish["severity"]), Severity.INFO),
    )  # fmt: skip
    wanted = [name for name in world.options.channels if name in wish["channels"]]
    return tuple(
        Message(f"{notice.key}/{notice.event}/{channel}", channel, notice.to_mapping())
        for channel in wanted or world.options.channels
    )


def all_clear(
    world: World,
    episode: Episode,
    run: Run | None,
    now: float,
    held: Collection[Reason] = (),
) -> tuple[Message, ...]:
    """Ends every page of this episode; nothing is said of an episode nobody was told about."""
    told = [f"held/{reason}" for reason in held]
    if episode.result in {Result.ESCALATED, Result.TOLD}:
        told.append("failed")
    if episode.result is Result.REFUSED and episode.reason not in SILENT:
        told.append("refused")
    messages: list[Message] = []
    for ending in told:
        notice = _notice(
            world, episode, run, now,
            key=f"{episode.id}/{ending}",
            title=f"Over: {episode.name} on {episode.target}",
            text=f"The alert no longer fires. See: healer explain {episode.id}",
            event=NoticeEvent.RESOLVE,
        )  # fmt: skip
        messages += _to_channels(world, episode, run, notice)
    return tuple(messages)


def _notice(
    world: World,
    episode: Episode,
    run: Run | None,
    now: float,
    *,
    key: str,
    title: str,
    text: str,
    event: NoticeEvent = NoticeEvent.TRIGGER,
    severity: Severity | None = None,
    reason: Reason | None = None,
    evidence: dict[str, str] | None = None,
) -> Notice:
    return Notice(
        event=event,
        key=key[:255],
        severity=severity or _severity(world, episode),
        title=title[:200],
        text=text,
        at=now,
        episode_id=episode.id,
        playbook=episode.playbook,
        target=episode.target,
        reason=str(reason or (run.reason if run is not None else "") or episode.reason or ""),
        labels=dict(episode.labels),
        links={"alert": episode.generator_url} if episode.generator_url else {},
        evidence=evidence or {},
    )


def _summary(world: World, episode: Episode, run: Run | None) -> tuple[str, ...]:
    """What the playbook's author wants read first, its placeholders filled."""
    for playbook in world.playbooks():
        if playbook.name == episode.playbook and playbook.escalation.summary:
            plan = run.plan if run is not None else None
            return (worded(playbook.escalation.summary, episode, plan),)
    return ()


def _severity(world: World, episode: Episode) -> Severity:
    for playbook in world.playbooks():
        if playbook.name == episode.playbook:
            return _SEVERITIES.get(playbook.escalation.severity, Severity.CRITICAL)
    return Severity.CRITICAL


def _to_channels(
    world: World, episode: Episode, run: Run | None, notice: Notice
) -> tuple[Message, ...]:
    wanted: tuple[str, ...] = ()
    for playbook in world.playbooks():
        if playbook.name == episode.playbook:
            wanted = playbook.escalation.notify
    channels = [name for name in world.options.channels if not wanted or name in wanted]
    return tuple(
        Message(f"{notice.key}/{notice.event}/{channel}", channel, notice.to_mapping())
        for channel in channels or world.options.channels
    )
