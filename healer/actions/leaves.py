"""Types of single parameters: each accepts exactly what the API server, or Prometheus, accepts."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from healer.kernel.durations import parse_duration
from healer.kernel.quantities import parse_quantity


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _quantity(text: str) -> str:
    if parse_quantity(text) <= 0:
        raise ValueError(f"{text[:40]!r} is not more than nothing; write for example 500m or 2Gi")
    return text


def _whole(value: object) -> object:
    # Labels are text, so a number that came out of one arrives as digits.
    return int(value) if isinstance(value, str) and value.lstrip("-").isdecimal() else value


#: Seconds, written as Prometheus writes durations (`90s`, `5m`) or as a number.
Seconds = Annotated[
    float,
    BeforeValidator(_seconds),
    Field(ge=0, le=7 * 86400),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "duration"}, {"type": "number", "minimum": 0}]}
    ),
]
#: A Kubernetes quantity above zero, kept as it was written.
Quantity = Annotated[str, StringConstraints(min_length=1, max_length=40), AfterValidator(_quantity)]
#: A whole number; digits in a text are one too.
Whole = Annotated[int, BeforeValidator(_whole)]
#: A DNS-1123 subdomain: the name of most objects.
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)
]
#: A DNS-1123 label: the name of a container, Service, namespace or ServiceAccount.
Label = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)
]
#: The key of a label or annotation, with or without a prefix.
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
#: The value of a label; never empty, because an empty one would match what has no such label.
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
]
#: A key of a ConfigMap.
DataKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]{1,253}$")]
#: A JSON pointer (RFC 6901) to something inside the object, never the whole of it.
Pointer = Annotated[str, StringConstraints(pattern=r"^(/([^~/]|~[01])*)+$", max_length=512)]
#: An absolute http or https URL without credentials in it.
Url = Annotated[
    str, StringConstraints(pattern=r"^https?://[A-Za-z0-9.\-\[\]:]+(/[^\s#]*)?$", max_length=2048)
]
#: A short text for people.
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
