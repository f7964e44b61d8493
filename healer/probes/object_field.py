"""object_field: one field of one object compares as it should."""

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from healer.actions.contract import Params
from healer.actions.leaves import Label, Name, Pointer
from healer.actions.pointer import ABSENT, resolve
from healer.actions.rights import among, each
from healer.domain.outcome import Finding, Recovery
from healer.domain.target import CLUSTER_SCOPED, Kind, TargetRef
from healer.errors import HealerError, NotFound
from healer.expressions import Pattern
from healer.kernel.quantities import parse_quantity
from healer.ports import Permission
from healer.probes.contract import ProbeContext

Number = Annotated[float, Field(allow_inf_nan=False)]


class ObjectFieldParams(Params):
    """Which field, and what it must be; all that are given must hold."""

    path: Pointer
    """JSON pointer, e.g. `/status/phase`."""
    kind: Kind | None = None
    """Another object than the target; give both."""
    name: Name | None = None
    namespace: Label | None = None
    equals: str | bool | int | float | None = None
    differs: str | bool | int | float | None = None
    at_least: Number | None = None
    """Numbers, and quantities such as `2Gi`."""
    at_most: Number | None = None
    matches: Annotated[str, StringConstraints(max_length=512)] | None = None
    """A regular expression for the whole text."""
    exists: bool | None = None
    """Only whether it is there."""

    @field_validator("matches")
    @classmethod
    def _regex(cls, value: str | None) -> str | None:
        if value is not None:
            Pattern(value, whole=True)
        return value

    @model_validator(mode="after")
    def _something(self) -> Self:
        if (self.kind is None) != (self.name is None):
            raise ValueError("give both `kind` and `name`, or neither for the target")
        tests = ("equals", "differs", "at_least", "at_most", "matches", "exists")
        if all(getattr(self, name) is None for name in tests):
            raise ValueError(f"give one of {', '.join(tests)}")
        return self

    def problem(self, value: Any) -> str:
        """Empty when all holds, else what does not. Raises ValueError for no number."""
        if self.equals is not None and not _equal(value, self.equals):
            return f"is {value!r}, not {self.equals!r}"
        if self.differs is not None and _equal(value, self.differs):
            return f"is {value!r}"
        if self.matches is not None and not _matches(self.matches, str(value)):
            return f"is {value!r}, which does not match {self.matches!r}"
        if self.at_least is not None and parse_quantity(str(value)) < self.at_least:
            return f"is {value!r}, less than {self.at_least:g}"
        if self.at_most is not None and parse_quantity(str(value)) > self.at_most:
            return f"is {value!r}, more than {self.at_most:g}"
        return ""


class ObjectField:
    """Recovered when the field is as it should be; one that is not there is unknown."""

    name: ClassVar[str] = "object_field"
    summary: ClassVar[str] = "A field of the target, or of a named object, has a wanted value."
    params: ClassVar[type[Params]] = ObjectFieldParams

    def needs(self, params: Any, kind: Kind | None = None) -> tuple[Permission, ...]:
        """Reads the object."""
        return each(among(params.kind or kind, Kind), "get")

    async def look(self, ctx: ProbeContext, params: Any) -> Finding:
        """One look."""
        ref = _which(ctx, params)
        try:
            found = await ctx.cluster.get(ref)
        except NotFound:
            gone = Recovery.RECOVERED if params.exists is False else Recovery.UNKNOWN
            return self._found(gone, f"{ref} is gone")
        except HealerError as error:
            return self._found(Recovery.UNKNOWN, str(error))
        value = resolve(found, params.path)
        what = f"{params.path} of {ref}"
        if params.exists is not None and (value is not ABSENT) is not params.exists:
            word = "is not there" if params.exists else "is there"
            return self._found(Recovery.NOT_RECOVERED, f"{what} {word}")
        if value is ABSENT:
            if params.exists is False:
                return self._found(Recovery.RECOVERED, f"{what} is not there")
            return self._found(Recovery.UNKNOWN, f"{what} is not there")
        try:
            problem = params.problem(value)
        except ValueError as error:
            return self._found(Recovery.UNKNOWN, f"{what}: {error}")
        if problem:
            return self._found(Recovery.NOT_RECOVERED, f"{what} {problem}")
        return self._found(Recovery.RECOVERED, f"{what} is {value!r}"[:512])

    def _found(self, recovery: Recovery, detail: str) -> Finding:
        return Finding(self.name, recovery, detail)


def _matches(pattern: str, text: str) -> bool:
    return Pattern(pattern, whole=True).found_in(text)


def _which(ctx: ProbeContext, params: ObjectFieldParams) -> TargetRef:
    if params.kind is None or params.name is None:
        return TargetRef(ctx.target.kind, ctx.target.name, ctx.target.namespace)
    namespace = params.namespace or ctx.target.namespace
    return TargetRef(params.kind, params.name, "" if params.kind in CLUSTER_SCOPED else namespace)


def _equal(value: Any, wanted: Any) -> bool:
    # True == 1 in Python, and `true` is not 1 in JSON.
    return isinstance(value, bool) is isinstance(wanted, bool) and bool(value == wanted)
