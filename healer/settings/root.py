"""All sections together, and the rules that span them."""

from pathlib import Path

from pydantic import Field, model_validator

from healer.settings.conduct import (
    Autonomy,
    Election,
    Log,
    Playbooks,
    Protected,
    StoreSettings,
    Worker,
)
from healer.settings.listen import Limits, Listen, Person, Source
from healer.settings.scaling import Scaling
from healer.settings.section import Name, Section
from healer.settings.world import Alertmanager, Http, Kubernetes, Notifier, Prometheus


class Settings(Section):
    """Every setting. Frozen: a change needs a restart, except for the files that settings name."""

    store: StoreSettings = Field(default=StoreSettings(), description="The journal.")
    listen: Listen = Field(default=Listen(), description="The three servers.")
    sources: dict[Name, Source] = Field(
        default_factory=dict, description="Who may deliver alerts; the name is the URL's last part."
    )
    people: dict[Name, Person] = Field(
        default_factory=dict, description="Who may use the API; the name is kept with an approval."
    )
    kubernetes: Kubernetes = Field(default=Kubernetes(), description="The API server.")
    prometheus: Prometheus = Field(default=Prometheus(), description="Where PromQL is asked.")
    alertmanager: Alertmanager = Field(default=Alertmanager(), description="The level of alerts.")
    playbooks: Playbooks = Field(default=Playbooks(), description="What to do.")
    scaling: Scaling = Field(default=Scaling(), description="What is scaled ahead of its load.")
    notifiers: dict[Name, Notifier] = Field(
        default_factory=dict, description="How people are told; the name is used by playbooks."
    )
    http: Http = Field(default=Http(), description="What playbooks may call.")
    limits: Limits = Field(default=Limits(), description="What one caller may ask.")
    worker: Worker = Field(default=Worker(), description="Who does the work.")
    election: Election = Field(default=Election(), description="Which replica polls.")
    autonomy: Autonomy = Field(default=Autonomy(), description="How much is automatic.")
    protected: Protected = Field(default=Protected(), description="What is never touched.")
    log: Log = Field(default=Log(), description="What is logged.")
    dry_run: bool = Field(
        default=False,
        description="Everything but the effect: the API server checks and changes nothing.",
    )
    pause_file: Path = Field(
        default=Path("/run/healer/pause"),
        description="While this file exists nothing is done; its first line is the reason.",
    )

    @model_validator(mode="after")
    def _fail_closed(self) -> "Settings":
        for name, listener, credential, granted in (
            ("webhook", self.listen.webhook, "sources.<name>.token_files", bool(self.sources)),
            ("api", self.listen.api, "people.<name>.token_files", bool(self.people)),
        ):
            if not granted and not listener.loopback:
                raise ValueError(
                    f"listen.{name}.host: {listener.host} can be reached from outside, and nobody "
                    f"has a credential; set {credential} or bind 127.0.0.1"
                )
        if self.scaling.policies and not self.prometheus.url:
            raise ValueError("scaling.policies need prometheus.url, where demand is read; set it")
        if any(source.client_names for source in self.sources.values()):
            tls = self.listen.webhook.tls
            if tls is None or tls.client_ca_file is None:
                raise ValueError(
                    "sources: client_names need listen.webhook.tls.client_ca_file; set it"
                )
        return self
