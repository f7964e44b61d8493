"""Collects what healer did since the fault: from its API, and from the API server's audit log."""

import json
from typing import Any

from chaos.play import Play
from chaos.web import ask

#: Actions that disrupt nothing: to tell somebody, and to wait.
HARMLESS = frozenset({"notify", "wait"})
_WRITES = frozenset({"create", "update", "patch", "delete"})


def mine(play: Play, episode: dict[str, Any], since: float) -> bool:
    """Whether the episode is about this play's victim, or about a node the fault hit."""
    labels = episode["labels"]
    if episode["opened_at"] < since - 1.0:
        return False
    nodes = {one.name for one in play.notes.targets if one.kind == "Node"}
    if labels.get("node") in nodes and "pod" not in labels:
        return True
    if labels.get("namespace") != play.namespace:
        return False
    named = [labels.get(key, "") for key in ("pod", "deployment")]
    return any(name == play.victim or name.startswith(f"{play.victim}-") for name in named)


def stories(play: Play, since: float) -> list[dict[str, Any]]:
    """The episodes of this play with their actions, oldest first."""
    found = [one for one in play.healer.episodes() if mine(play, one, since)]
    return [_short(play.healer.story(one["id"])) for one in reversed(found)]


def _short(story: dict[str, Any]) -> dict[str, Any]:
    episode = story["episode"]
    facts = [one["fact"] for one in story["facts"]]
    return {
        "id": episode["id"],
        "labels": episode["labels"],
        "starts_at": episode["starts_at"],
        "opened_at": episode["opened_at"],
        "state": episode["state"],
        "reason": episode["reason"],
        "result": episode["result"],
        "held": [
            {"at": fact["at"], "reason": fact["reason"]}
            for fact in facts
            if fact["kind"] == "verdict" and fact["reason"]
        ],
        "actions": [action for run in story["runs"] for action in _actions(run)],
    }


def _actions(run: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for record in run["steps"]:
        step = run["plan"]["steps"][record["step"]]
        if step["action"] in HARMLESS or record["outcome"] in {"skipped", "dry_run"}:
            continue
        target = step["target"]
        found.append({
            "action": step["action"],
            "kind": target["kind"],
            "namespace": target.get("namespace", ""),
            "name": target["name"],
            "undo": record["undo"],
            "attempt": record["attempt"],
            "intent_at": record["intent_at"],
            "outcome": record["outcome"],
            "outcome_at": record["outcome_at"],
            "run_finished_at": run["finished_at"],
        })  # fmt: skip
    return found


def audited(play: Play, since: float) -> list[dict[str, Any]] | None:
    """healer's successful writes to pods, workloads and nodes of this play; None without a log."""
    log = play.site.audit_log
    if log is None:
        return None
    names = {one.name for one in play.notes.targets}
    found = []
    with log.open() as lines:
        for line in lines:
            if '"healer/' not in line:
                continue
            event = json.loads(line)
            about, status = event.get("objectRef", {}), event.get("responseStatus", {})
            if (
                event["verb"] not in _WRITES
                or event["stage"] != "ResponseComplete"
                or not event.get("userAgent", "").startswith("healer/")
                or status.get("code", 500) >= 300
                or about.get("resource") not in {"pods", "deployments", "nodes"}
                or "dryRun=" in event.get("requestURI", "")
                or event["requestReceivedTimestamp"] < _stamp(since)
            ):
                continue
            name = about.get("name", "")
            if name in names or name.startswith(f"{play.victim}-") or name == play.victim:
                found.append({
                    "at": event["requestReceivedTimestamp"], "verb": event["verb"],
                    "resource": about["resource"], "subresource": about.get("subresource", ""),
                    "name": name,
                })  # fmt: skip
    return found


def _stamp(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def pages(play: Play, since: float) -> list[dict[str, Any]] | None:
    """The pages people got since then, None when that cannot be seen from here."""
    if not play.site.pages:
        return None
    return [one for one in ask("GET", play.site.pages) if one["at"] >= since]
