"""How the daemon behaves: what it remembers where, what it may do, and what it says."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from healer.settings.section import Seconds, Section

ModeName = Literal["observe", "approve", "auto"]


class StoreSettings(Section):
    """The journal."""

    path: Path = Field(
        default=Path("/var/lib/healer/healer.db"),
        description="SQLite file; its directory must be on a local disk, never on NFS.",
    )
    url: str = Field(
        default="",
        description="PostgreSQL instead, which replicas can share: `postgresql://role@host/name`.",
    )
    url_file: Path | None = Field(
        default=None, description="File with that URL, when there is a password in it."
    )
    direct_url: str = Field(
        default="",
        description="Past a proxy that pools transactions, for hints between replicas.",
    )
    direct_url_file: Path | None = Field(
        default=None, description="File with that URL, when there is a password in it."
    )
    connections: int = Field(default=10, ge=3, le=100, description="Most at once to PostgreSQL.")

    @property
    def shared(self) -> bool:
        """Whether several replicas can use this journal."""
        return bool(self.url or self.url_file)

    # A pattern would be told with the URL itself, and so with a password in it.
    @field_validator("url", "direct_url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        if url and not url.startswith(("postgresql://", "postgres://")):
            raise ValueError("is no PostgreSQL URL; write postgresql://role@host:port/database")
        if (
            "password=" in url
            or ":" in url.partition("://")[2].rpartition("@")[0].partition("@")[0]
        ):
            raise ValueError(
                "has a password in it; put the URL into a file and name that in url_file "
                "(direct_url_file)"
            )
        return url

    @model_validator(mode="after")
    def _exactly_one(self) -> "StoreSettings":
        given = [name for name in ("path", "url", "url_file") if name in self.model_fields_set]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        if self.direct_url and self.direct_url_file:
            raise ValueError("direct_url and direct_url_file exclude each other; keep one")
        if (self.direct_url or self.direct_url_file) and not self.shared:
            raise ValueError("direct_url goes with url or url_file; set one of them")
        return self


class Playbooks(Section):
    """What to do."""

    paths: tuple[Path, ...] = Field(
        default=(Path("/etc/healer/playbooks"),),
        min_length=1,
        description="Playbook files, or directories that are searched for `*.yaml`.",
    )


class Worker(Section):
    """Who does the work."""

    concurrency: int = Field(default=50, ge=1, le=256, description="Episodes worked on at once.")
    lease_seconds: Seconds = Field(
        default=30.0,
        description="A claim lasts so long without renewal; then another worker takes over.",
    )
    replica: str = Field(
        default="",
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?)?$",
        description="Name of this replica and no other, e.g. the pod's UID: claims that an earlier "
        "process of this name held are over at start. Unset: they are when their leases end.",
    )
    hold_page_seconds: Seconds = Field(
        default=60.0, description="A person is told of what is held back for this long."
    )


class Election(Section):
    """Which replica polls and evaluates triggers; all of them take alerts and act."""

    enabled: bool | None = Field(
        default=None,
        description="Hold an election by a Lease. Unset: when the journal can be shared.",
    )
    lease_name: str = Field(
        default="healer",
        pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$",
        description="The Lease's name, in `kubernetes.own_namespace`.",
    )
    lease_seconds: Seconds = Field(
        default=15.0, ge=1.0, description="Others wait so long after its holder's last renewal."
    )
    renew_deadline_seconds: Seconds = Field(
        default=10.0, description="A holder that could not renew for so long stops by itself."
    )
    retry_seconds: Seconds = Field(default=2.0, description="How often it is renewed.")

    @model_validator(mode="after")
    def _in_order(self) -> "Election":
        if not self.lease_seconds > self.renew_deadline_seconds >= 2 * self.retry_seconds:
            raise ValueError(
                "lease_seconds must be more than renew_deadline_seconds, and that at least twice "
                "retry_seconds"
            )
        return self


class Autonomy(Section):
    """How much playbooks may do by themselves."""

    ceiling: ModeName = Field(
        default="auto", description="No playbook does more than this, whatever it says."
    )


class Protected(Section):
    """What is never touched, beyond the compiled-in list (docs/safety.md)."""

    namespaces: tuple[str, ...] = Field(
        default=(), description="Namespaces in which nothing is touched."
    )
    kinds: tuple[str, ...] = Field(
        default=(), description="Kinds that are never touched, e.g. `Node`."
    )
    objects: tuple[Annotated[str, Field(pattern=r"^[A-Za-z]+/([^/\s]+/)?[^/\s]+$")], ...] = Field(
        default=(),
        description="Objects that are never touched: `Kind/namespace/name` or `Node/name`.",
    )


class Log(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe level that is logged."
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="`auto`: text on a terminal, JSON otherwise."
    )
