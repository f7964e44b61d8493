"""What a Job of healer's may ask for: a pod that stays inside its own container.

The "baseline" level of Kubernetes' Pod Security Standards, checked here too because a namespace
need not enforce it. Volumes are a list of what may be, so that a kind yet to come is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = frozenset({
    "configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "secret",
})  # fmt: skip
_NODE = ("hostNetwork", "hostPID", "hostIPC", "nodeName", "ephemeralContainers", "hostAliases")
_OWN = ("serviceAccountName", "serviceAccount")
#: What baseline lets a container add beyond the runtime's default, cut to what a script may need.
_CAPABILITIES = frozenset({"NET_BIND_SERVICE"})


def check_pod_spec(template: Mapping[str, Any]) -> None:
    """Raises ValueError for a pod spec without containers, or one that reaches into the node."""
    for field in _NODE:
        if template.get(field):
            raise ValueError(f"`{field}` reaches into the node, which a Job of healer never does")
    if template.get("hostUsers") is True:
        raise ValueError("`hostUsers` reaches into the node; leave it out")
    for field in _OWN:
        if template.get(field):
            raise ValueError(f"`{field}` stands in the parameters, as `service_account`")
    _check_security("the pod", template.get("securityContext"))
    for volume in _mappings(template, "volumes"):
        kinds = set(volume) - {"name"}
        if kinds - VOLUMES:
            raise ValueError(
                f"volume {volume.get('name')} is a {', '.join(sorted(kinds - VOLUMES))}, which may "
                f"reach into nodes; one of {', '.join(sorted(VOLUMES))}"
            )
    if not template.get("containers"):
        raise ValueError("the pod spec has no `containers`")
    for field in ("containers", "initContainers"):
        for container in _mappings(template, field):
            _check_container(container)


def _check_container(container: Mapping[str, Any]) -> None:
    name = f"container {container.get('name')}"
    if not container.get("image"):
        raise ValueError(f"{name} has no `image`")
    for port in _mappings(container, "ports"):
        if port.get("hostPort"):
            raise ValueError(f"{name} takes a port of the node; remove `hostPort`")
    list(_mappings(container, "env"))
    _check_security(name, container.get("securityContext"))


def _check_security(name: str, context: Any) -> None:
    if context is None:
        return
    if not isinstance(context, Mapping):
        raise ValueError(f"`securityContext` of {name} is no mapping")
    if context.get("privileged"):
        raise ValueError(f"{name} is privileged")
    if context.get("allowPrivilegeEscalation"):
        raise ValueError(f"{name} may escalate its privileges; set it to false")
    if context.get("procMount") not in {None, "Default"} or context.get("windowsOptions"):
        raise ValueError(f"{name} unmasks the node's own files; remove procMount, windowsOptions")
    for profile in ("seccompProfile", "appArmorProfile"):
        chosen = context.get(profile)
        if isinstance(chosen, Mapping) and chosen.get("type") == "Unconfined":
            raise ValueError(f"{name} is unconfined; set {profile} to RuntimeDefault")
    if context.get("sysctls"):
        raise ValueError(f"{name} sets sysctls of the node's kernel; remove them")
    added = context.get("capabilities")
    wanted = added.get("add") if isinstance(added, Mapping) else None
    if wanted and not (isinstance(wanted, list) and set(map(str, wanted)) <= _CAPABILITIES):
        raise ValueError(f"{name} adds the capabilities {wanted}; remove them")


def _mappings(holder: Mapping[str, Any], field: str) -> Iterator[Mapping[str, Any]]:
    """The items of a list of mappings. Raises ValueError when it is anything else."""
    items = holder.get(field)
    if items is None:
        return
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise ValueError(f"`{field}` is a list of mappings")
    yield from items
