"""Scaling: which policies, and where the metrics API answers the HPA."""

from pathlib import Path

from pydantic import Field, model_validator

from healer.settings.section import Port, Section


class MetricsApi(Section):
    """Where the API server's aggregation layer asks for metrics."""

    enabled: bool = Field(
        default=True, description="Answer the HPA. Off: KEDA and `/metrics` only."
    )
    host: str = Field(
        default="0.0.0.0",  # noqa: S104 - the aggregator reaches it from outside of the pod
        description="Address to bind; only the API server's own certificate is answered.",
    )
    port: Port = Field(default=6443, description="TCP port; 0 takes a free one.")
    service: str = Field(
        default="healer-metrics",
        description="The Service that the APIServices name, in `kubernetes.own_namespace`.",
    )
    cert_file: Path | None = Field(
        default=None,
        description="PEM certificate chain; unset: one is made and told to the APIServices.",
    )
    key_file: Path | None = Field(default=None, description="PEM private key of `cert_file`.")

    @model_validator(mode="after")
    def _pair(self) -> "MetricsApi":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; set both or neither")
        return self


class Scaling(Section):
    """How workloads are scaled ahead of their load."""

    policies: tuple[Path, ...] = Field(
        default=(),
        description="Scaling policies, or directories that are searched for `*.yaml`; "
        "empty: nothing is scaled.",
    )
    state_path: Path = Field(
        default=Path("/var/lib/healer/forecasts"),
        description="Directory where forecasts keep what they learned; without it they learn "
        "again after a restart.",
    )
    metrics_api: MetricsApi = Field(
        default=MetricsApi(), description="Where the HPA's questions are answered."
    )
