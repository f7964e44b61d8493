"""Who may reach the daemon: its three servers, and whose credentials they take."""

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from healer.settings.section import Port, Seconds, Section


class Tls(Section):
    """Certificates of one listener."""

    cert_file: Path = Field(description="PEM certificate chain; read again when it changes.")
    key_file: Path = Field(description="PEM private key of `cert_file`.")
    client_ca_file: Path | None = Field(
        default=None,
        description="PEM bundle: callers must show a certificate signed by one of these.",
    )


class Listener(Section):
    """Where one of the three servers listens."""

    host: str = Field(default="127.0.0.1", description="Address to bind.")
    port: Port = Field(default=0, description="TCP port; 0 takes a free one.")
    tls: Tls | None = Field(
        default=None, description="Serve TLS with these files; unset: plain HTTP."
    )

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Webhook(Listener):
    """Where Alertmanager posts."""

    port: Port = Field(default=8080, description="TCP port; 0 takes a free one.")


class Api(Listener):
    """Where the CLI and people ask."""

    port: Port = Field(default=8081, description="TCP port; 0 takes a free one.")


class Health(Listener):
    """Where the kubelet and Prometheus look. It serves nothing secret and changes nothing."""

    port: Port = Field(default=8082, description="TCP port; 0 takes a free one.")
    metrics_token_files: tuple[Path, ...] = Field(
        default=(),
        max_length=2,
        description="When set, `/metrics` needs one of these bearer tokens.",
    )


class Listen(Section):
    """The three servers, apart so that each can have its own network policy."""

    webhook: Webhook = Field(default=Webhook(), description="Where Alertmanager posts.")
    api: Api = Field(default=Api(), description="Where the CLI and people ask.")
    health: Health = Field(default=Health(), description="`/healthz /readyz /metrics`.")


class Source(Section):
    """Who may deliver alerts under this name, and how fast."""

    token_files: tuple[Path, ...] = Field(
        default=(),
        max_length=2,
        description="Files with a bearer token each; two during a rotation.",
    )
    client_names: tuple[str, ...] = Field(
        default=(), description="DNS names or common names of client certificates that may deliver."
    )
    requests_per_second: float = Field(
        default=5000.0, gt=0, description="Sustained rate; above it the answer is 503, never 429."
    )
    burst: int = Field(default=5000, ge=1, description="Requests that may come at once.")

    @model_validator(mode="after")
    def _has_credential(self) -> "Source":
        if not self.token_files and not self.client_names:
            raise ValueError("a source needs token_files or client_names: without either all may")
        return self


class Person(Section):
    """Who may use the API under this name; the name is what the journal says of approvals."""

    token_files: tuple[Path, ...] = Field(
        min_length=1,
        max_length=2,
        description="Files with a bearer token each; two during a rotation.",
    )
    role: Literal["viewer", "operator"] = Field(
        default="viewer",
        description="`viewer` reads; `operator` also approves, pauses and acknowledges.",
    )


class Limits(Section):
    """What one caller may ask of the daemon. Each refusal is counted and named in the answer."""

    body_bytes: int = Field(
        default=32 << 20, ge=1024, description="Largest webhook body; above it: 413."
    )
    alerts: int = Field(default=50_000, ge=1, description="Most alerts in one body; above it: 413.")
    labels: int = Field(
        default=64, ge=1, description="Most labels of an alert; above it: rejected."
    )
    label_bytes: int = Field(
        default=1024, ge=16, description="Longest label name or value; above it: rejected."
    )
    read_seconds: Seconds = Field(
        default=10.0, description="A body must have arrived by then; else: 503."
    )
    commit_seconds: Seconds = Field(
        default=5.0,
        description="A delivery must be on disk by then; else: 503, and it is sent again.",
    )
    inflight_bytes: int = Field(
        default=64 << 20, ge=1024, description="Bodies held in memory at once; above it: 503."
    )
    inflight_requests: int = Field(
        default=1000, ge=1, description="Deliveries being answered at once; above it: 503."
    )

    @model_validator(mode="after")
    def _fits(self) -> "Limits":
        if self.inflight_bytes < self.body_bytes:
            raise ValueError("inflight_bytes is below body_bytes, so no body of that size passes")
        return self
