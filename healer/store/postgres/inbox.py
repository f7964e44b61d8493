"""The inbox: alerts made durable as they came, folded into episodes by one replica at a time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from healer.domain.alert import Alert, Rejected
from healer.domain.episode import Episode, Fold
from healer.kernel.ids import digest
from healer.store.folding import DELIVERIES_KEPT_SECONDS, POLLS_KEPT_SECONDS, Decide, fold_batch
from healer.store.postgres import chain
from healer.store.postgres.connections import Transaction
from healer.store.postgres.values import decode_alert, plain
from healer.store.rows import decode_episode, encode, encode_episode

_FORGET_AT_ONCE = 500
_REJECTED_KEPT = 10_000


@dataclass(slots=True)
class Delivery:
    """Alerts that one caller delivers: encoded, each once."""

    at: float | None
    ids: list[bytes] = field(default_factory=list)
    series: list[bytes] = field(default_factory=list)
    polled: list[bool] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, alerts: Iterable[Alert], at: float | None) -> "Delivery":
        """The delivery of `alerts`; `at` is None where the database says when that is."""
        made = cls(at)
        seen = set()
        for alert in alerts:
            if alert.event_id in seen:
                continue
            seen.add(alert.event_id)
            made.ids.append(bytes.fromhex(alert.event_id))
            made.series.append(series(alert.source, alert.fingerprint))
            made.polled.append(alert.polled_at is not None)
            made.bodies.append(encode(alert))
        return made


def series(source: str, fingerprint: str) -> bytes:
    """What all episodes of one alert share."""
    return bytes.fromhex(digest(source, fingerprint))


async def accept(transaction: Transaction, deliveries: Sequence[Delivery]) -> list[int]:
    """Add the events of several callers; returns how many of each were new."""
    ids = [id_ for each in deliveries for id_ in each.ids]
    rows = await transaction.rows(
        "event_add",
        ids,
        list(range(len(ids))),
        [value for each in deliveries for value in each.series],
        [value for each in deliveries for value in each.polled],
        [each.at for each in deliveries for _ in each.ids],
        [value for each in deliveries for value in each.bodies],
    )
    fresh = {row[0] for row in rows}
    counts = []
    for each in deliveries:
        mine = fresh.intersection(each.ids)
        fresh -= mine
        counts.append(len(mine))
    return counts


async def reject(transaction: Transaction, rejected: Sequence[Rejected], at: float | None) -> None:
    """Keep what could not be understood; the same again is kept once, the oldest are dropped."""
    await transaction.run(
        "rejected_add",
        [bytes.fromhex(digest(each.source, each.problem, each.payload)) for each in rejected],
        [plain(each.source) for each in rejected],
        [plain(each.problem) for each in rejected],
        [plain(each.payload) for each in rejected],
        at,
    )
    await transaction.run("rejected_trim", _REJECTED_KEPT)


async def fold(transaction: Transaction, decide: Decide, limit: int) -> list[tuple[Alert, Fold]]:
    """Fold the oldest `limit` events; see `healer.ports.Store.fold`."""
    now = transaction.now
    await transaction.row("fold_turn")
    events = await transaction.rows("fold_next", limit)
    if not events:
        return []
    found = await transaction.rows("fold_latest", list({row[1] for row in events}))
    latest = {row[0]: decode_episode(row[1]) for row in found}
    batch = [(at, decode_alert(body), latest.get(key)) for _, key, at, body in events]
    folded, changed, facts = fold_batch(batch, decide, now)
    kept = chain.kept(facts)
    if changed:
        columns = zip(*(_episode_row(episode) for episode in changed), strict=True)
        await transaction.run("fold_episode", *map(list, columns), now)
    await transaction.run("fold_mark", [row[0] for row in events])
    for polled, seconds in ((True, POLLS_KEPT_SECONDS), (False, DELIVERIES_KEPT_SECONDS)):
        await transaction.run("event_forget", polled, now - seconds, _FORGET_AT_ONCE)
    await chain.append(transaction, kept)
    return folded


def _episode_row(episode: Episode) -> tuple[object, ...]:
    return (
        episode.id,
        series(episode.source, episode.fingerprint),
        episode.ordinal,
        plain(episode.source),
        plain(episode.name),
        episode.state,
        episode.firing,
        episode.severity_rank,
        episode.opened_at,
        episode.next_at,
        plain(episode.playbook),
        plain(episode.target),
        episode.reason or "",
        encode_episode(episode),
    )
