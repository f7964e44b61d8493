"""run_job: a script of your own, as a Job with its own ServiceAccount, for what no verb does."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import yaml
from pydantic import Field, StringConstraints, model_validator

from healer.actions.contract import ActionContext, Params, Presence
from healer.actions.leaves import DataKey, Label, Name, Seconds
from healer.actions.objects import RUN, already, applied
from healer.actions.pod_spec import check_pod_spec
from healer.actions.rights import each
from healer.domain.manifests import meta
from healer.domain.outcome import Applied
from healer.domain.target import Kind, Observation, TargetRef
from healer.errors import Conflict, NotFound, Refused
from healer.ports import JsonObject, Permission

#: Most that is read of a template.
MAX_TEMPLATE = 65536
#: Values inside each other in a template. A pod spec needs about 10.
MAX_DEPTH = 32
MANAGED_BY = "app.kubernetes.io/managed-by"


class RunJobParams(Params):
    """What is run, as whom and for how long."""

    template: dict[str, Any] | None = None
    """The pod spec (`containers` …), as in `spec.template.spec` of a Job."""
    config_map: Name | None = None
    """Or: a ConfigMap in the Job's namespace whose `key` holds that pod spec as YAML."""
    key: DataKey = "pod.yaml"
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """SHA-256 of that text; a changed one is refused. None accepts whatever is there."""
    service_account: Label
    """A must, and never `default`: what the script may do is what this account may do."""
    namespace: Label | None = None
    """The target's, unless said; a cluster-scoped target needs it."""
    deadline: Annotated[Seconds, Field(ge=1, le=86400)] = 600.0
    """It is ended after so long."""
    keep: Annotated[Seconds, Field(ge=0, le=7 * 86400)] = 3600.0
    """Kept for so long after its end."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.template is None) == (self.config_map is None):
            raise ValueError("give either `template` or `config_map`")
        if self.service_account == "default":
            raise ValueError("`service_account: default` is not one of its own; make one for it")
        if self.template is not None:
            check_pod_spec(self.template)
        return self


class RunJob:
    """Creates one Job named after the step's key: a second try finds the first."""

    name: ClassVar[str] = "run_job"
    summary: ClassVar[str] = "Run a Job of your own, with its own ServiceAccount, once."
    params: ClassVar[type[Params]] = RunJobParams
    kinds: ClassVar[frozenset[Kind]] = frozenset()
    action_class: ClassVar[str] = "job"
    idempotent: ClassVar[bool] = True
    probeable: ClassVar[bool] = True
    looked_up_by: ClassVar[str] = "the Job's name, which is the step's key"
    undone_by: ClassVar[str] = "deletes the Job, which ends it if it still runs"

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Read, create and delete Jobs; read the ConfigMap."""
        jobs = each((Kind.JOB,), "get", "create", "delete")
        return (*jobs, *each((Kind.CONFIG_MAP,), "get")) if params.config_map else jobs

    def cost(self, params: Any, seen: Observation) -> int:
        """One: nobody knows what the script does."""
        return 1

    async def prepare(self, ctx: ActionContext, params: Any, seen: Observation) -> dict[str, Any]:
        """The whole manifest. Refuses a template that asks for rights of the node."""
        namespace = params.namespace or seen.ref.namespace
        if not namespace:
            raise Refused(f"{seen.ref} has no namespace; say where the Job runs with `namespace`")
        template = params.template
        if params.config_map is not None:
            template = await _from_config_map(ctx, params, namespace)
        return {"manifest": manifest(template or {}, params, namespace, seen.ref, ctx.key)}

    async def apply(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied:
        """Create it; that it exists with this key is fine."""
        ref = _ref(before)
        try:
            made = await ctx.cluster.create(dict(before["manifest"]), dry_run=ctx.dry_run)
        except Conflict as error:
            if await self.probe(ctx, params, target, before) is Presence.APPLIED:
                return already(f"{ref} was created before")
            raise Conflict(f"{ref} exists and is not of this run: {error}") from error
        evidence = {"job": ref.name, "namespace": ref.namespace, "uid": meta(made).get("uid", "")}
        return applied(ctx, f"{ref} is created", evidence)

    async def probe(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Presence:
        """Whether the Job with this key exists."""
        try:
            found = await ctx.cluster.get(_ref(before))
        except NotFound:
            return Presence.NOT_APPLIED
        wanted = before["manifest"]["metadata"]["labels"][RUN]
        same = (meta(found).get("labels") or {}).get(RUN) == wanted
        return Presence.APPLIED if same else Presence.NOT_APPLIED

    async def undo(
        self, ctx: ActionContext, params: Any, target: TargetRef, before: Mapping[str, Any]
    ) -> Applied | None:
        """Delete the Job: a running one ends. What it did already stays done."""
        ref = _ref(before)
        if await self.probe(ctx, params, target, before) is not Presence.APPLIED:
            return None
        try:
            found = await ctx.cluster.get(ref)
            await ctx.cluster.delete(ref.with_uid(meta(found)["uid"]), dry_run=ctx.dry_run)
        except NotFound:
            return already(f"{ref} is gone")
        return applied(ctx, f"{ref} is deleted")


def manifest(
    template: Mapping[str, Any],
    params: RunJobParams,
    namespace: str,
    target: TargetRef,
    key: str,
) -> JsonObject:
    """The Job: one pod, tried once, told its target by environment variables and nothing else."""
    told = [
        {"name": "HEALER_RUN", "value": key},
        {"name": "HEALER_TARGET_KIND", "value": str(target.kind)},
        {"name": "HEALER_TARGET_NAMESPACE", "value": target.namespace},
        {"name": "HEALER_TARGET_NAME", "value": target.name},
        {"name": "HEALER_TARGET_UID", "value": target.uid},
    ]
    containers = [
        {**container, "env": [*(container.get("env") or ()), *told]}
        for container in template["containers"]
    ]
    labels = {RUN: key, MANAGED_BY: "healer"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": key, "namespace": namespace, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "parallelism": 1,
            "completions": 1,
            "activeDeadlineSeconds": int(params.deadline),
            "ttlSecondsAfterFinished": int(params.keep),
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **template,
                    "containers": containers,
                    "restartPolicy": "Never",
                    "serviceAccountName": params.service_account,
                },
            },
        },
    }


async def _from_config_map(
    ctx: ActionContext, params: RunJobParams, namespace: str
) -> dict[str, Any]:
    ref = TargetRef(Kind.CONFIG_MAP, params.config_map or "", namespace)
    found = await ctx.cluster.get(ref)
    text = (found.get("data") or {}).get(params.key)
    if text is None:
        raise Refused(f"{ref} has no key {params.key}")
    if len(text) > MAX_TEMPLATE:
        raise Refused(f"{params.key} of {ref} is longer than {MAX_TEMPLATE} characters")
    actual = hashlib.sha256(text.encode()).hexdigest()
    if params.sha256 is not None and actual != params.sha256:
        raise Refused(f"{params.key} of {ref} is {actual} and not the `sha256` that was reviewed")
    try:
        template = await asyncio.to_thread(_plain, text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Refused(f"{params.key} of {ref} is not YAML: {error}") from error
    if not isinstance(template, dict):
        raise Refused(f"{params.key} of {ref} is no pod spec")
    try:
        check_pod_spec(template)
    except ValueError as error:
        raise Refused(f"{params.key} of {ref}: {error}") from error
    return template


def _plain(text: str) -> Any:
    """The values in `text`, looked through before any is made: PyYAML takes a minute for 40,000
    brackets, and an alias can stand for more than memory holds. Raises ValueError."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has YAML aliases; write them out")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested deeper than {MAX_DEPTH}; flatten it")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return yaml.safe_load(text)


def _ref(before: Mapping[str, Any]) -> TargetRef:
    head = before["manifest"]["metadata"]
    return TargetRef(Kind.JOB, head["name"], head["namespace"])
