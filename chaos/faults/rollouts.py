"""Faults of releases."""

from typing import Any

from chaos.play import Target, current

Configuration = dict[str, Any]


def bad_release(configuration: Configuration | None = None) -> dict[str, Any]:
    """Roll out a revision whose pods never become ready."""
    play = current(configuration)
    play.require_allowed()
    it = play.deployment()
    container = it["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [*container.get("env", []), {"name": "BAD", "value": "unready"}]
    path = f"/apis/apps/v1/namespaces/{play.namespace}/deployments/{play.victim}"
    change = {"spec": {"template": {"spec": {"containers": [container]}}}}
    play.kube.patch(path, change)
    return play.struck([Target("Deployment", play.victim, play.namespace, it["metadata"]["uid"])])
