"""Names of Services for pods: `python -m tests.bed.dns`, a stand-in for CoreDNS.

It answers SERVICE.NAMESPACE.svc.cluster.local: with the ClusterIP, or with the addresses
of the ready pods when the Service is headless (HOST.SERVICE... with the one of that name).
Every other name does not exist: there is no world outside to ask.
"""

from __future__ import annotations

import argparse
import socket
import struct
from pathlib import Path
from typing import Any

from tests.bed.api import Api
from tests.bed.errors import BedError
from tests.bed.waiting import now

DOMAIN = "cluster.local"
PORT = 53
FRESH_SECONDS = 0.5
TTL = 1
HEADER = struct.Struct("!6H")
TYPE_A, CLASS_IN = 1, 1
NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME = 0, 2, 3


class Names:
    """What each name leads to, as the API server told it a moment ago."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known: dict[str, list[str]] = {}
        self._read_at = -FRESH_SECONDS

    def addresses(self, name: str) -> list[str] | None:
        """The addresses of a name, None when there is no such name."""
        if now() - self._read_at > FRESH_SECONDS:
            self._known = self._read()
            self._read_at = now()
        return self._known.get(name.lower().rstrip("."))

    def _read(self) -> dict[str, list[str]]:
        known: dict[str, list[str]] = {}
        headless: set[str] = set()
        for service in self._api.get("/api/v1/services?resourceVersion=0")["items"]:
            name = _full(service["metadata"]["name"], service["metadata"]["namespace"])
            address = service["spec"].get("clusterIP", "")
            if address == "None":
                headless.add(name)
                known[name] = []
            elif address:
                known[name] = [address]
        slices = "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0"
        for item in self._api.get(slices)["items"] if headless else []:
            service_name = item["metadata"].get("labels", {}).get("kubernetes.io/service-name", "")
            name = _full(service_name, item["metadata"]["namespace"])
            if name in headless:
                _add_endpoints(known, name, item)
        return known


def _full(service: str, namespace: str) -> str:
    return f"{service}.{namespace}.svc.{DOMAIN}"


def _add_endpoints(known: dict[str, list[str]], name: str, item: Any) -> None:
    for endpoint in item.get("endpoints") or []:
        if endpoint.get("conditions", {}).get("ready", True):
            known[name] += endpoint["addresses"]
            if endpoint.get("hostname"):
                known[f"{endpoint['hostname']}.{name}"] = list(endpoint["addresses"])


def answer(query: bytes, names: Names) -> bytes:
    """The answer to one question."""
    number, flags, *_ = HEADER.unpack_from(query)
    name, end = _question(query)
    kind, sort = struct.unpack_from("!2H", query, end)
    records: list[str] = []
    try:
        found = names.addresses(name)
        code = NO_SUCH_NAME if found is None else NO_ERROR
        # A name that exists has no IPv6 address, which is not the same as not existing.
        if found and kind == TYPE_A and sort == CLASS_IN:
            records = found
    except (OSError, BedError):
        code = SERVER_FAILURE
    asked_to_recurse = flags & 0x0100
    header = HEADER.pack(number, 0x8480 | asked_to_recurse | code, 1, len(records), 0, 0)
    # 0xC00C points at the name in the question.
    about = struct.pack("!3HIH", 0xC00C, TYPE_A, CLASS_IN, TTL, 4)
    body = b"".join(about + socket.inet_aton(address) for address in records)
    return header + query[HEADER.size : end + 4] + body


def _question(query: bytes) -> tuple[str, int]:
    """The name that is asked for, and where it ends."""
    labels: list[str] = []
    at = HEADER.size
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    return ".".join(labels), at + 1


def main() -> None:
    """Answer until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--address", required=True)
    options = parser.parse_args()
    names = Names(Api(options.kubeconfig, timeout=2.0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((options.address, PORT))
        while True:
            query, sender = server.recvfrom(4096)
            try:
                server.sendto(answer(query, names), sender)
            except (struct.error, IndexError):
                continue  # not a question; whoever sent it can wait


if __name__ == "__main__":
    main()
