"""Judges a finished history: by the shared checker, and by what only a simulation can know."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from healer.domain.episode import EpisodeState
from healer.domain.journal import FactKind, Sealed
from healer.domain.pause import Pause
from healer.ports import EpisodeFilter
from healer.testing.history import History, Sent, Tolerance, check
from healer.testing.simulation.replica import Replica, Surroundings
from healer.testing.simulation.rules import Truth
from healer.testing.store_views import episodes, runs

#: Between a guard's look and the intent it led to may lie this much, when every call is slow.
LOOK_SECONDS = 45.0
_SAYS_WHY = frozenset({FactKind.VERDICT, FactKind.DECIDED, FactKind.ESCALATED, FactKind.HELD})
_ACTIVE = frozenset({EpisodeState.OPEN, EpisodeState.RUNNING})


def judge(
    around: Surroundings,
    replicas: Sequence[Replica],
    truth: Truth,
    sent: Sequence[Sent],
    *,
    jumped: float,
    late: float,
    calm: bool,
) -> tuple[list[str], int]:
    """What was wrong, in words, and how many effects there were."""
    journal = around.journal
    facts = tuple(journal.facts("", 0, 1 << 30))
    history = History(
        at=around.wall.now(),
        facts=facts,
        runs=tuple(runs(journal, "", 1 << 30)),
        episodes=tuple(episodes(journal, EpisodeFilter(limit=1 << 30))),
        effects=(*around.cluster.effects, *around.calls),
        sent=tuple(sent),
        # A clock that was set back lets what follows a beginning seem to come before it.
        firing=tuple(replace(period, since=period.since - jumped) for period in truth.all()),
        kept=frozenset(journal.known),
        leases={row.episode.id: row.lease_until for row in journal.active.values() if row.owner},
        calm=calm,
        tolerance=Tolerance(
            clock=1.0 + jumped, firing=LOOK_SECONDS + late + jumped, stuck=120.0 + jumped
        ),
    )
    report = check(history)
    wrong = [f"unforeseen: {failure}" for failure in around.loop.failures]
    wrong += (str(violation) for violation in report.violations)
    wrong += _reasons(history)
    wrong += _while_paused(facts, jumped)
    wrong += _while_blind(facts, replicas, sent, jumped)
    if calm and journal.undelivered:
        wrong.append(f"{len(journal.undelivered)} messages were never delivered")
    return wrong, report.effects


def _reasons(history: History) -> list[str]:
    """Every non-action has a reason, in its episode and in its facts."""
    wrong = [
        f"{episode.id} is {episode.state} and nobody says why"
        for episode in history.episodes
        if episode.state not in _ACTIVE and episode.reason is None
    ]
    wrong += [
        f"fact {sealed.seq}: {sealed.fact.kind} without a reason"
        for sealed in history.facts
        if sealed.fact.kind in _SAYS_WHY and sealed.fact.reason is None
    ]
    return wrong


def _while_paused(facts: Sequence[Sealed], jumped: float) -> list[str]:
    """No step is begun while a pause covers it that was there before the guard looked."""
    wrong = []
    pauses: dict[str, Pause] = {}
    for sealed in facts:
        fact = sealed.fact
        data = fact.data
        match fact.kind:
            case FactKind.PAUSED:
                pauses[data["id"]] = Pause(
                    data["id"], "", "", fact.at, data["namespace"], data["playbook"], data["until"]
                )
            case FactKind.RESUMED:
                pauses.pop(data["id"], None)
            case FactKind.INTENT:
                namespace = str(data["target"]).split("/")[1]
                wrong += [
                    f"fact {sealed.seq}: {fact.detail} was begun while {pause.scope} was paused"
                    for pause in pauses.values()
                    if pause.covers(namespace, data["playbook"], fact.at)
                    and fact.at - pause.at > LOOK_SECONDS + jumped
                ]
            case _:
                pass
    return wrong


def _while_blind(
    facts: Sequence[Sealed], replicas: Sequence[Replica], sent: Sequence[Sent], jumped: float
) -> list[str]:
    """No step is begun by who could not ask what fires, unless it had just been told."""
    blind = {replica.name: replica.blind for replica in replicas if replica.blind}
    if not blind:
        return []
    told: dict[str, list[float]] = defaultdict(list)
    for each in sent:
        told[each.fingerprint].append(each.at)
    fingerprints = {
        sealed.fact.episode_id: str(sealed.fact.data["fingerprint"])
        for sealed in facts
        if sealed.fact.kind is FactKind.ACCEPTED
    }
    slack = LOOK_SECONDS + jumped
    wrong = []
    for sealed in facts:
        fact = sealed.fact
        if fact.kind is not FactKind.INTENT or fact.data["undo"]:
            continue
        owner = str(fact.data.get("owner", "")).split(".")[0]
        heard = told[fingerprints.get(fact.episode_id, "")]
        if any(0 <= fact.at - at <= 2 * slack for at in heard):
            continue
        wrong += [
            f"fact {sealed.seq}: {fact.detail} was begun by {owner}, blind for "
            f"{fact.at - since:.0f} s"
            for since, until in blind.get(owner, ())
            if since + slack < fact.at < until
        ]
    return wrong
