"""What can be read: each function is one statement, so it sees one moment, and changes nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from healer.domain.budget import Bucket
from healer.domain.episode import Episode
from healer.domain.journal import Sealed
from healer.domain.pause import Pause
from healer.domain.run import Run
from healer.domain.storm import Flow
from healer.ports import EpisodeFilter, Ledger, LedgerQuery, Message
from healer.store.postgres import chain
from healer.store.postgres.connections import View
from healer.store.postgres.values import plain, run_with
from healer.store.rows import decode_any, decode_approval, decode_episode, decode_pause

_SHORTEST_PREFIX = 6


#: What one guard asks for, and the time it gives: None where the database says what time it is.
Question = tuple[LedgerQuery, float | None]


async def ledgers(view: View, asked: Sequence[Question]) -> list[Ledger]:
    """The persistent facts for each guard; see `healer.ports.Ledger` for what each means."""
    queries = [query for query, _ in asked]
    rows = await view.rows(
        "ledgers",
        [given for _, given in asked],
        [query.playbook for query in queries],
        [query.target for query in queries],
        [query.lock for query in queries],
        [query.zone for query in queries],
        [query.episode_id for query in queries],
        [query.recent_seconds for query in queries],
        list({key for query in queries for key in query.bucket_keys}),
    )
    found = {row["number"]: row for row in rows}
    in_force = [decode_pause(doc) for doc in found[1]["pauses"]]
    buckets = {}
    for key, tokens, at in map(decode_any, found[1]["buckets"]):
        buckets[key] = Bucket(float(tokens), float(at))
    return [
        _ledger(query, found[number], in_force, buckets)
        for number, query in enumerate(queries, start=1)
    ]


def _ledger(
    query: LedgerQuery, row: Any, in_force: Sequence[Pause], buckets: Mapping[str, Bucket]
) -> Ledger:
    now = row["now"]
    return Ledger(
        pauses=tuple(each for each in in_force if each.until is None or each.until > now),
        buckets={key: buckets[key] for key in query.bucket_keys if key in buckets},
        locked_by=row["locked_by"],
        last_run_ended_at=row["last_run_ended_at"],
        in_flight_owner=row["in_flight_owner"],
        in_flight_zone=row["in_flight_zone"],
        flow=Flow() if row["recovered"] is None else Flow(row["held_at"], row["recovered"]),
        queue_place=row["queue_place"],
        recent_runs=row["recent_runs"],
        bad_outcomes=row["bad_outcomes"],
        last_bad_at=row["last_bad_at"],
        breaker_reset_at=row["breaker_reset_at"],
        approval=decode_approval(row["approval"]) if row["approval"] else None,
    )


async def pauses(view: View, given: float | None) -> list[Pause]:
    """All pauses in force."""
    return [decode_pause(row[0]) for row in await view.rows("pauses", given)]


async def episode(view: View, id_: str) -> Episode | None:
    """One episode by its id, or by an unambiguous prefix of it."""
    id_ = plain(id_)
    row = await view.row("episode_look", id_)
    if row is not None:
        return decode_episode(row[0])
    if len(id_) < _SHORTEST_PREFIX:
        return None
    found = await view.rows("episode_prefix", id_, id_ + "\U0010ffff")
    return decode_episode(found[0][0]) if len(found) == 1 else None


async def episodes(view: View, which: EpisodeFilter) -> list[Episode]:
    """Episodes, newest first."""
    rows = await view.rows(
        "episodes",
        list(which.states),
        plain(which.source_prefix),
        which.firing,
        plain(which.playbook),
        plain(which.text),
        which.limit,
    )
    return [decode_episode(row[0]) for row in rows]


async def list_runs(view: View, episode_id: str, limit: int) -> list[Run]:
    """Runs with their steps, newest first; of one episode when named."""
    if episode_id:
        rows = await view.rows("runs_of", plain(episode_id), limit)
    else:
        rows = await view.rows("runs_all", limit)
    return [run_with(doc, steps) for doc, steps in rows]


async def facts(view: View, episode_id: str, after: int, limit: int) -> list[Sealed]:
    """Facts in order; of one episode when named."""
    if episode_id:
        rows = await view.rows("facts_of", plain(episode_id), after, limit)
    else:
        rows = await view.rows("facts_all", after, limit)
    return [chain.decode(row) for row in rows]


async def messages_due(view: View, given: float | None, limit: int) -> Sequence[Message]:
    """Messages to be delivered now, the longest waiting first."""
    rows = await view.rows("messages_due", given, limit)
    return [Message(id_, channel, decode_any(body), tries) for id_, channel, body, tries in rows]


async def next_due(view: View) -> float | None:
    """When there is next something to do: an episode, the end of a lease, or a message."""
    due: float | None = (await view.row("next_due"))[0]
    return due


async def counts(view: View) -> dict[str, int]:
    """Numbers for the metrics page."""
    return dict(map(tuple, await view.rows("counts")))


async def playbook_text(view: View, sha256: str) -> str | None:
    """The YAML a run began with."""
    row = await view.row("text_look", plain(sha256))
    return row[0] if row else None
