"""Faults of pods: killed, poisoned, hung, leaking; and a person who repairs half of them."""

from typing import Any

from chaos.clock import until
from chaos.errors import ChaosError
from chaos.kube import Json, condition, living
from chaos.play import Play, Target, current

Configuration = dict[str, Any]


def kill(count: int, configuration: Configuration | None = None) -> dict[str, Any]:
    """Delete pods without grace."""
    play, chosen = _choose(count, configuration)
    for pod in chosen:
        _delete(play, pod)
    return play.struck([_target(pod) for pod in chosen])


def poison(count: int, configuration: Configuration | None = None) -> dict[str, Any]:
    """Spoil the state of pods, so that every container of them crashes; a new pod would not."""
    play, chosen = _choose(count, configuration)
    for pod in chosen:
        play.poke(pod["metadata"]["name"], "/poison")
    return play.struck([_target(pod) for pod in chosen])


def hang(count: int, configuration: Configuration | None = None) -> dict[str, Any]:
    """Make pods answer nobody."""
    play, chosen = _choose(count, configuration)
    for pod in chosen:
        play.poke(pod["metadata"]["name"], "/hang")
    return play.struck([_target(pod) for pod in chosen])


def leak(count: int, mb: int, configuration: Configuration | None = None) -> dict[str, Any]:
    """Make pods keep so many MiB, less than their limit: nothing kills them for it."""
    play, chosen = _choose(count, configuration)
    for pod in chosen:
        play.poke(pod["metadata"]["name"], f"/leak?mb={mb}")
    return play.struck([_target(pod) for pod in chosen])


def repair_half(configuration: Configuration | None = None) -> dict[str, Any]:
    """Be the person who repairs half of what was hit; the rest is left to healer."""
    play = current(configuration)
    play.require_allowed()
    targets = sorted(play.notes.targets, key=lambda one: one.name)
    spared = targets[: len(targets) // 2]
    for one in spared:
        path = f"/api/v1/namespaces/{play.namespace}/pods/{one.name}"
        play.kube.delete(path, uid=one.uid, grace=0)

    def gone() -> bool:
        left = {pod["metadata"]["uid"] for pod in play.pods()}
        return not left & {one.uid for one in spared}

    until(gone, "the repaired pods to be gone", timeout=20)
    return play.released([one.name for one in spared])


def _choose(count: int, configuration: Configuration | None) -> tuple[Play, list[Json]]:
    play = current(configuration)
    play.require_allowed()
    pods = [pod for pod in living(play.pods()) if condition(pod, "Ready") == "True"]
    if len(pods) < count:
        raise ChaosError(f"{count} ready pods of {play.victim} were wanted, {len(pods)} are there")
    return play, sorted(pods, key=lambda pod: pod["metadata"]["name"])[:count]


def _delete(play: Play, pod: Json) -> None:
    meta = pod["metadata"]
    path = f"/api/v1/namespaces/{play.namespace}/pods/{meta['name']}"
    play.kube.delete(path, uid=meta["uid"], grace=0)


def _target(pod: Json) -> Target:
    meta = pod["metadata"]
    return Target("Pod", meta["name"], meta["namespace"], meta["uid"])
