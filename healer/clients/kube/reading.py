"""Reads: one object, or all of a list in pages, as plain JSON."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from healer.clients.kube.connection import Connection
from healer.clients.kube.errors import Call, Gone, unreadable
from healer.clients.kube.paths import collection_path, object_path
from healer.domain.kinds import RESOURCES
from healer.domain.target import Kind, TargetRef
from healer.ports import JsonObject

T = TypeVar("T")

PAGE = 500
#: Only `metadata`: a node or a ReplicaSet is many times larger than what we ask of it.
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class _Items(msgspec.Struct):
    items: list[msgspec.Raw] | None = None
    metadata: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Page:
    """Up to `PAGE` objects, each still the bytes it came as, and where the list stands."""

    items: list[msgspec.Raw]
    resource_version: str
    more: str  #: continue token, empty on the last page


def describe(verb: str, kind: Kind, place: str, *, writes: bool = False) -> Call:
    """A call in words: `get deployments.apps default/web`."""
    return Call(verb, f"{RESOURCES[kind]} {place}".rstrip(), writes=writes)


def place_of(ref: TargetRef) -> str:
    """`namespace/name`, or the name of what has no namespace."""
    return f"{ref.namespace}/{ref.name}" if ref.namespace else ref.name


def decode(call: Call, content: bytes) -> JsonObject:
    """A JSON object of the API server. Raises ServerFailed when it is none."""
    return decode_as(call, content, dict[str, Any])


def decode_as(call: Call, content: bytes | msgspec.Raw, kind: type[T]) -> T:
    """JSON of a given shape, of which only the named fields are built."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.MsgspecError as error:
        raise unreadable(call, error) from error


class Reader:
    """Reads from one API server; every answer is fresh unless a method says otherwise."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, ref: TargetRef, *, accept: str = "application/json") -> JsonObject:
        """One object. Raises NotFound."""
        call = describe("get", ref.kind, place_of(ref))
        return decode(
            call, await self._connection.call("GET", object_path(ref), call, accept=accept)
        )

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        accept: str = "application/json",
    ) -> list[JsonObject]:
        """All objects that match, each with its kind as `get` would give it."""
        call = describe("list", kind, namespace)
        api = {"apiVersion": RESOURCES[kind].api_version, "kind": str(kind)}

        async def once() -> list[JsonObject]:
            pages = self.pages(kind, namespace, labels=labels, fields=fields, accept=accept)
            return [
                {**decode_as(call, raw, dict[str, Any]), **api}
                async for page in pages
                for raw in page.items
            ]

        return await begun_again(once)

    async def pages(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        accept: str = "application/json",
    ) -> AsyncIterator[Page]:
        """The pages of one consistent list. Raises Gone when the server has forgotten it."""
        call = describe("list", kind, namespace)
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = labels
        if fields:
            query["fieldSelector"] = fields
        while True:
            content = await self._connection.call(
                "GET", collection_path(kind, namespace), call, query=query, accept=accept
            )
            answer = decode_as(call, content, _Items)
            more = str(answer.metadata.get("continue") or "")
            version = str(answer.metadata.get("resourceVersion") or "")
            yield Page(answer.items or [], version, more)
            if not more:
                return
            query["continue"] = more


async def begun_again(once: Callable[[], Awaitable[T]]) -> T:
    """What `once` gives; begun once more when the list took so long that the server forgot it."""
    try:
        return await once()
    except Gone:
        return await once()


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """The results of all, run at once; the first failure ends the others and is raised as it is."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return tuple(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
