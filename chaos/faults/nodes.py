"""Faults of nodes. No API can do them, so the site declares commands, or they are not possible."""

from typing import Any

from chaos.clock import until
from chaos.errors import ChaosError, Refused
from chaos.kube import Json, condition, living
from chaos.play import Play, Target, current
from chaos.scope import is_allowed, require_node
from chaos.site import HookName

Configuration = dict[str, Any]
#: A node that comes back does so within this time. Seconds.
BACK_SECONDS = 120.0


def freeze_kubelet(configuration: Configuration | None = None) -> dict[str, Any]:
    """Stop a kubelet in its tracks: containers run on, the node falls silent."""
    return _strike("freeze_node", configuration)


def cut_power(configuration: Configuration | None = None) -> dict[str, Any]:
    """Kill a node with all that runs on it."""
    return _strike("kill_node", configuration)


def thaw_kubelet(configuration: Configuration | None = None) -> dict[str, Any]:
    """Let the frozen kubelet go on, and take the cordon away."""
    return _restore("thaw_node", configuration)


def restore_power(configuration: Configuration | None = None) -> dict[str, Any]:
    """Power the killed node on again, and take the cordon away."""
    return _restore("restore_node", configuration)


def _strike(hook: HookName, configuration: Configuration | None) -> dict[str, Any]:
    play = current(configuration)
    play.require_allowed()
    node = choose(play)
    name = node["metadata"]["name"]
    require_node(play.kube, name)
    # Noted first: whatever comes of the command, the rollback must know the node.
    told = play.struck([Target("Node", name, "", node["metadata"]["uid"])])
    play.site.hook(hook, node=name)
    return told


def choose(play: Play) -> Json:
    """The allowed node with the fewest pods of the victim, but at least one."""
    on: dict[str, int] = {}
    for pod in living(play.pods()):
        name = pod["spec"].get("nodeName", "")
        on[name] = on.get(name, 0) + 1
    nodes = [
        node
        for node in play.kube.items("/api/v1/nodes")
        if node["metadata"]["name"] in on and is_allowed(node)
    ]
    if not nodes:
        raise Refused(
            "no node with a pod of the victim is labelled for experiments: label one that may be "
            "broken with all that runs there, `kubectl label node NAME healer.dev/chaos=allowed`"
        )
    # Of equals the last, so that the first nodes, where other things tend to live, are left alone.
    names = sorted(nodes, key=lambda node: node["metadata"]["name"], reverse=True)
    return min(names, key=lambda node: on[node["metadata"]["name"]])


def _restore(hook: HookName, configuration: Configuration | None) -> dict[str, Any]:
    play = current(configuration)
    if not play.notes.targets:
        return {"node": ""}  # there was no fault
    name = play.notes.targets[0].name
    path = f"/api/v1/nodes/{name}"
    play.site.hook(hook, node=name)

    def back() -> bool:
        return condition(play.kube.get(path), "Ready") == "True"

    until(back, f"node {name} to be ready again", timeout=BACK_SECONDS)
    play.kube.patch(path, {"spec": {"unschedulable": None}})

    def open_again() -> bool:
        spec = play.kube.get(path)["spec"]
        return not spec.get("unschedulable") and not spec.get("taints")

    try:
        until(open_again, f"the taints of {name} to go", timeout=BACK_SECONDS)
    except ChaosError as error:
        raise ChaosError(f"{error}; look at it before the next experiment") from error
    return {"node": name}
