"""http_get: an endpoint answers as it should."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from healer.actions.contract import Params
from healer.actions.leaves import Label, Name, Seconds, Url, Whole
from healer.actions.rights import each
from healer.domain.manifests import meta
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import Kind, TargetRef
from healer.errors import HealerError, NotFound
from healer.expressions import Pattern
from healer.ports import Permission
from healer.probes.contract import ProbeContext


class HttpGetParams(Params):
    """Where, and what must come back. Exactly one of `url`, `service` and `pod`."""

    url: Url | None = None
    service: Label | None = None
    """A Service in the target's namespace, by its DNS name."""
    pod: Name | None = None
    """A pod in the target's namespace, by its IP; `target` is the step's own."""
    scheme: Literal["http", "https"] = "http"
    port: Annotated[Whole, Field(ge=1, le=65535)] | None = None
    path: Annotated[str, StringConstraints(pattern=r"^/[^\s#]*$", max_length=1024)] = "/"
    status: tuple[Annotated[int, Field(ge=100, le=599)], ...] = ()
    """Status codes that are good; none means 200 to 299."""
    body: Annotated[str, StringConstraints(max_length=512)] | None = None
    """A regular expression that must be found in the body."""
    timeout: Annotated[Seconds, Field(gt=0, le=60)] = 5.0

    @field_validator("body")
    @classmethod
    def _regex(cls, value: str | None) -> str | None:
        if value is not None:
            Pattern(value)
        return value

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if [self.url, self.service, self.pod].count(None) != 2:
            raise ValueError("give exactly one of `url`, `service` and `pod`")
        if self.url is None and self.port is None:
            raise ValueError("`service` and `pod` need a `port`")
        return self


class HttpGet:
    """Recovered on a good status and body; an endpoint that cannot be reached is unknown."""

    name: ClassVar[str] = "http_get"
    summary: ClassVar[str] = "An HTTP endpoint answers with a good status and body."
    params: ClassVar[type[Params]] = HttpGetParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads the pod for its IP; otherwise nothing of the API server."""
        return each((Kind.POD,), "get") if params.pod else ()

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        if ctx.http is None:
            return self._found(Recovery.UNKNOWN, "outgoing HTTP is not configured")
        try:
            url = await _url(ctx, params)
            if url is None:
                return self._found(Recovery.UNKNOWN, f"pod {params.pod} has no IP yet")
            answer = await ctx.http.request("GET", url, timeout=params.timeout)
        except NotFound as error:
            return self._found(Recovery.NOT_RECOVERED, f"there is no such pod: {error}")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        text = f"{url} answered {answer.status}"
        good = answer.status in params.status if params.status else 200 <= answer.status < 300
        if not good:
            return self._found(Recovery.NOT_RECOVERED, text)
        if params.body is not None:
            body = answer.body.decode(errors="replace")
            if not Pattern(params.body).found_in(body):
                return self._found(Recovery.NOT_RECOVERED, f"{text} without {params.body!r}")
        return self._found(Recovery.RECOVERED, text)

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


async def _url(ctx: ProbeContext, params: HttpGetParams) -> str | None:
    if params.url is not None:
        return params.url
    namespace = ctx.target.namespace
    if params.service is not None:
        host = f"{params.service}.{namespace}.svc"
    else:
        name = ctx.target.name if params.pod == "target" else params.pod or ""
        pod = await ctx.cluster.get(TargetRef(Kind.POD, name, namespace))
        address = (pod.get("status") or {}).get("podIP")
        if not address or meta(pod).get("deletionTimestamp"):
            return None
        host = f"[{address}]" if ":" in address else address
    return f"{params.scheme}://{host}:{params.port}{params.path}"
