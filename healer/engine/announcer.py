"""Kubernetes Events on the target: acting, held back, verified, escalated, in the journal's words.

`kubectl describe` of the sick object thus shows what healer did and why not. Events are a courtesy,
the journal is the record: they are posted in the background, and dropped when the queue is full.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from healer.domain.episode import Episode
from healer.domain.journal import Fact, FactKind
from healer.domain.run import Run
from healer.domain.target import CLUSTER_SCOPED, TargetRef
from healer.errors import Conflict, HealerError
from healer.kernel.clock import rfc3339
from healer.kernel.ids import digest
from healer.ports import Cluster

_log = logging.getLogger(__name__)

QUEUE = 1000
_NORMAL = "Normal"
_WARNING = "Warning"
_TOLD = {
    FactKind.INTENT: ("HealerActs", _NORMAL),
    FactKind.VERDICT: ("HealerBlocked", _WARNING),
    FactKind.VERIFIED: ("HealerVerified", _NORMAL),
    FactKind.ESCALATED: ("HealerEscalated", _WARNING),
    FactKind.HELD: ("HealerHeld", _WARNING),
}


class Announcer:
    """A listener that turns facts into Events."""

    def __init__(self, cluster: Cluster, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(QUEUE)
        self.dropped = 0  #: Events not posted because too many waited

    def heard(self, episode: Episode, run: Run | None, facts: Sequence[Fact]) -> None:
        """Queue an Event for each fact worth one."""
        if run is None:
            return
        for fact in facts:
            if fact.kind not in _TOLD:
                continue
            try:
                self._queue.put_nowait(self._event(episode, run.plan.target, fact))
            except asyncio.QueueFull:
                self.dropped += 1

    async def round(self) -> None:
        """Post one Event."""
        manifest = await self._queue.get()
        try:
            await self._cluster.create(manifest)
        except Conflict:
            return  # the same fact was announced before a restart
        except HealerError as error:
            _log.warning("Event not posted", extra={"error": str(error)})

    def _event(self, episode: Episode, target: TargetRef, fact: Fact) -> dict[str, Any]:
        word, kind = _TOLD[fact.kind]
        reason = f": {fact.reason}" if fact.reason else ""
        namespace = "default" if target.kind in CLUSTER_SCOPED else target.namespace
        at = rfc3339(round(fact.at))
        name = digest(episode.id, fact.run_id, fact.kind, f"{fact.at:.6f}", fact.detail)[:16]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{target.name[:40].rstrip('-.')}.{name}", "namespace": namespace},
            "involvedObject": {
                "kind": str(target.kind), "name": target.name, "uid": target.uid,
                **({} if target.kind in CLUSTER_SCOPED else {"namespace": target.namespace}),
            },
            "reason": word,
            "message": f"{fact.detail}{reason} [{episode.name}, {episode.id}]"[:1024],
            "type": kind,
            "count": 1,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "source": {"component": "healer"},
            "reportingComponent": "healer.dev/healer",
            "reportingInstance": self._instance,
            "action": str(fact.data.get("action", word)),
        }  # fmt: skip
