"""`metav1.Status` answers: the only form of an error that Kubernetes' clients can read."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from scalers.ports import Reason, Refused


@dataclass(slots=True)
class Answer:
    """One answer, ready to be written."""

    code: int
    body: bytes
    content_type: str = "application/json"
    head: bytes = field(default=b"", compare=False)  #: kept by `writing.head`


def failure(
    code: int, reason: str, message: str, *, group: str = "", kind: str = "", name: str = ""
) -> Answer:
    """A Status of one failure; group, kind and name say what it is about."""
    said: dict[str, Any] = {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason,
    }  # fmt: skip
    details = {"name": name, "group": group, "kind": kind}
    if any(details.values()):
        said["details"] = {key: value for key, value in details.items() if value}
    return Answer(code, msgspec.json.encode({**said, "code": code}))


def no_such_path(path: str) -> Answer:
    """404 for what is not served."""
    return failure(
        404, "NotFound", f"the server could not find the requested resource: {path[:200]}"
    )


def no_such_metric(group: str, metric: str, about: str) -> Answer:
    """404 for a metric that nobody publishes there."""
    return failure(
        404, "NotFound",
        f"the metric {metric} is not published for {about} ({Reason.UNKNOWN}: no scaling policy "
        "names it)",
        group=group, kind=metric,
    )  # fmt: skip


def refused(group: str, metric: str, about: str, why: Refused) -> Answer:
    """404 for a metric that has no value now: missing is not zero."""
    return failure(
        404, "NotFound",
        f"the metric {metric} for {about} has no value: {why.reason}: {why.message}",
        group=group, kind=metric, name=str(why.reason),
    )  # fmt: skip


def bad_request(message: str) -> Answer:
    """400 for a parameter that cannot be read."""
    return failure(400, "BadRequest", message)


def method_not_allowed(method: str) -> Answer:
    """405: only reading is served."""
    return failure(
        405, "MethodNotAllowed", f"{method[:16]} is not supported: the metrics API is only read"
    )


def unauthorized(why: str) -> Answer:
    """401 for whoever did not come through the API server."""
    return failure(401, "Unauthorized", f"Unauthorized: {why}")


def forbidden(user: str, verb: str, what: str) -> Answer:
    """403 for whom the API server says no to."""
    return failure(403, "Forbidden", f'forbidden: User "{user[:200]}" cannot {verb} {what}')


def cannot_review(why: str) -> Answer:
    """500 when nobody can say whether the caller may; what Go's servers answer too."""
    return failure(500, "InternalError", f"Internal error occurred: {why}")
