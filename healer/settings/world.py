"""What the daemon reaches: the API server, Prometheus, Alertmanager, and people."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from healer.settings.section import URL, Port, Seconds, Section, Url


class Kubernetes(Section):
    """Which API server, and what of it is watched."""

    in_cluster: bool | None = Field(
        default=None,
        description="Use the pod's own account. Unset: yes inside a pod without kubeconfig.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="A kubeconfig file, outside a cluster."
    )
    context: str = Field(
        default="", description="Context in the kubeconfig; empty: its current one."
    )
    namespaces: tuple[str, ...] = Field(
        default=("*",),
        min_length=1,
        description='Namespaces watched; `"*"` alone is every namespace.',
    )
    own_namespace: str = Field(default="healer", description="Where healer runs: it is protected.")

    @property
    def everywhere(self) -> bool:
        """Whether every namespace is watched."""
        return self.namespaces == ("*",)

    @model_validator(mode="after")
    def _one_meaning(self) -> "Kubernetes":
        if "*" in self.namespaces and len(self.namespaces) > 1:
            raise ValueError('namespaces: "*" stands alone; name namespaces or write ["*"]')
        if self.in_cluster and self.kubeconfig:
            raise ValueError("in_cluster and kubeconfig exclude each other; remove one")
        return self


class HttpAuth(Section):
    """How to authenticate to a server."""

    token_file: Path | None = Field(default=None, description="File with a bearer token.")
    username: str = Field(default="", description="User name for basic authentication.")
    password_file: Path | None = Field(default=None, description="File with its password.")
    ca_file: Path | None = Field(
        default=None, description="PEM bundle to trust instead of the system's."
    )
    cert_file: Path | None = Field(default=None, description="PEM client certificate.")
    key_file: Path | None = Field(default=None, description="PEM key of the client certificate.")

    @model_validator(mode="after")
    def _pairs(self) -> "HttpAuth":
        if bool(self.username) != (self.password_file is not None):
            raise ValueError("username and password_file belong together; set both or neither")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together; set both or neither")
        if self.username and self.token_file:
            raise ValueError("username and token_file exclude each other; remove one")
        return self


class Prometheus(HttpAuth):
    """Where PromQL is asked."""

    url: Annotated[str, Field(pattern=rf"^$|{URL}")] = Field(
        default="",
        description="Base URL; empty: no Prometheus, and playbooks that need one are refused.",
    )
    timeout_seconds: Seconds = Field(default=10.0, description="Of one request.")


class Alertmanager(HttpAuth):
    """Where the present level of alerts is read, and silences are made."""

    urls: tuple[Url, ...] = Field(
        default=(),
        description="Base URLs, one of each cluster member; empty: webhooks are all we hear.",
    )
    receiver: str = Field(
        default="", description="Poll only alerts routed to this receiver; empty: every alert."
    )
    poll_seconds: Seconds = Field(default=30.0, description="How often the level is read.")
    timeout_seconds: Seconds = Field(default=10.0, description="Of one request.")


class Slack(Section):
    """A Slack incoming webhook."""

    type: Literal["slack"] = Field(description="`slack`: a Slack incoming webhook.")
    url_file: Path = Field(description="File with the webhook URL, which is a secret.")


class PagerDuty(Section):
    """PagerDuty Events v2."""

    type: Literal["pagerduty"] = Field(description="`pagerduty`: PagerDuty Events v2.")
    routing_key_file: Path = Field(description="File with the integration's routing key.")
    url: Url = Field(
        default="https://events.pagerduty.com/v2/enqueue", description="Where events are posted."
    )


class WebhookNotifier(Section):
    """Our own JSON, posted."""

    type: Literal["webhook"] = Field(description="`webhook`: healer's own JSON, posted.")
    url: Url = Field(description="Where it is posted.")
    token_file: Path | None = Field(default=None, description="File with a bearer token.")
    secret_file: Path | None = Field(
        default=None, description="File with a secret; set: bodies are signed with it."
    )
    ca_file: Path | None = Field(
        default=None, description="PEM bundle to trust instead of the system's."
    )


class Email(Section):
    """Mail by SMTP."""

    type: Literal["email"] = Field(description="`email`: mail by SMTP.")
    host: str = Field(description="SMTP server.")
    port: Port = Field(default=587, description="Its port.")
    sender: str = Field(description="From address.")
    to: tuple[str, ...] = Field(min_length=1, description="To addresses.")
    tls: Literal["starttls", "tls", "none"] = Field(
        default="starttls", description="How the connection is protected."
    )
    username: str = Field(default="", description="User name; empty: no authentication.")
    password_file: Path | None = Field(default=None, description="File with its password.")


class AlertmanagerNotifier(Section):
    """Our own alert, so that the existing routes page somebody."""

    type: Literal["alertmanager"] = Field(
        description="`alertmanager`: an alert `HealerRemediationFailed` to `alertmanager.urls`."
    )


Notifier = Annotated[
    Slack | PagerDuty | WebhookNotifier | Email | AlertmanagerNotifier,
    Field(discriminator="type"),
]


class Http(Section):
    """What playbooks may call."""

    allow: tuple[str, ...] = Field(
        default=(), description="Host names that `http_call` and `http_get` may reach; empty: none."
    )
