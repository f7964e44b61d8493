"""From settings to open clients: what is not configured is None, what is wrong is a ConfigError."""

from contextlib import AsyncExitStack

from healer.clients.alertmanager import Alertmanager
from healer.clients.http import OutgoingHttp
from healer.clients.kube import KubeCluster, KubeLeases
from healer.clients.kube.metrics_api import KubeMetricsApi
from healer.clients.kube.scaling import KubeWorkloads
from healer.clients.notify.alertmanager import AlertmanagerNotifier, OpenNotices
from healer.clients.notify.email import Email
from healer.clients.notify.pagerduty import PagerDuty
from healer.clients.notify.slack import Slack
from healer.clients.notify.webhook import Webhook
from healer.clients.outgoing import Access
from healer.clients.prometheus import Prometheus
from healer.clients.prometheus_range import PrometheusRanges
from healer.errors import ConfigError
from healer.kernel.clock import Clock
from healer.ports import Alerts, Notifier
from healer.settings import Settings
from healer.settings.world import (
    AlertmanagerNotifier as AlertmanagerChannel,
)
from healer.settings.world import Email as EmailChannel
from healer.settings.world import HttpAuth
from healer.settings.world import Notifier as Channel
from healer.settings.world import PagerDuty as PagerDutyChannel
from healer.settings.world import Slack as SlackChannel


async def open_cluster(settings: Settings, stack: AsyncExitStack, clock: Clock) -> KubeCluster:
    """The API server; nothing is sent yet."""
    where = settings.kubernetes
    cluster = await KubeCluster.open(
        clock, kubeconfig=str(where.kubeconfig or ""), context=where.context
    )
    stack.push_async_callback(cluster.close)
    return cluster


async def open_leases(
    settings: Settings, stack: AsyncExitStack, clock: Clock, timeout_seconds: float
) -> KubeLeases:
    """The election's Lease, on a connection of its own."""
    where = settings.kubernetes
    leases = await KubeLeases.open(
        clock, where.own_namespace, settings.election.lease_name,
        kubeconfig=str(where.kubeconfig or ""), context=where.context,
        timeout_seconds=timeout_seconds,
    )  # fmt: skip
    stack.push_async_callback(leases.close)
    return leases


async def open_prometheus(
    settings: Settings, stack: AsyncExitStack, clock: Clock
) -> Prometheus | None:
    """Prometheus, if one is configured."""
    where = settings.prometheus
    if not where.url:
        return None
    client = Prometheus(
        where.url,
        clock=clock,
        access=_access(where),
        timeout=where.timeout_seconds,
        source="alertmanager",
    )
    stack.push_async_callback(client.close)
    return client


async def open_ranges(settings: Settings, stack: AsyncExitStack, clock: Clock) -> PrometheusRanges:
    """Prometheus as the collector asks it. Its settings must be there."""
    where = settings.prometheus
    client = PrometheusRanges(
        where.url, clock=clock, access=_access(where), timeout=where.timeout_seconds
    )
    stack.push_async_callback(client.close)
    return client


async def open_workloads(settings: Settings, stack: AsyncExitStack, clock: Clock) -> KubeWorkloads:
    """What is scaled, on a connection of its own; nothing is sent yet."""
    where = settings.kubernetes
    found = await KubeWorkloads.open(
        clock, kubeconfig=str(where.kubeconfig or ""), context=where.context
    )
    stack.push_async_callback(found.close)
    return found


async def open_metrics_api(
    settings: Settings, stack: AsyncExitStack, clock: Clock
) -> KubeMetricsApi:
    """What the metrics API asks of the cluster, on a connection of its own."""
    where = settings.kubernetes
    found = await KubeMetricsApi.open(
        clock, kubeconfig=str(where.kubeconfig or ""), context=where.context
    )
    stack.push_async_callback(found.close)
    return found


async def open_alertmanager(
    settings: Settings, stack: AsyncExitStack, clock: Clock
) -> Alertmanager | None:
    """The Alertmanager cluster, if one is configured."""
    where = settings.alertmanager
    if not where.urls:
        return None
    client = Alertmanager(
        where.urls, clock=clock, access=_access(where), timeout=where.timeout_seconds
    )
    stack.push_async_callback(client.close)
    return client


async def open_http(settings: Settings, stack: AsyncExitStack, clock: Clock) -> OutgoingHttp | None:
    """What playbooks may call, if any host is allowed."""
    if not settings.http.allow:
        return None
    client = OutgoingHttp(settings.http.allow, clock=clock)
    stack.push_async_callback(client.close)
    return client


async def open_notifiers(
    settings: Settings,
    stack: AsyncExitStack,
    clock: Clock,
    *,
    alerts: Alerts | None,
    open_notices: OpenNotices,
) -> dict[str, Notifier]:
    """Every configured notifier by name. Raises ConfigError for one that cannot work."""
    found: dict[str, Notifier] = {}
    for name, channel in settings.notifiers.items():
        found[name] = await _notifier(name, channel, stack, clock, alerts, open_notices)
    return found


async def _notifier(
    name: str,
    channel: Channel,
    stack: AsyncExitStack,
    clock: Clock,
    alerts: Alerts | None,
    open_notices: OpenNotices,
) -> Notifier:
    if isinstance(channel, SlackChannel):
        slack = Slack(name, url_file=channel.url_file)
        stack.push_async_callback(slack.close)
        return slack
    if isinstance(channel, PagerDutyChannel):
        pager = PagerDuty(name, channel.routing_key_file, url=channel.url)
        stack.push_async_callback(pager.close)
        return pager
    if isinstance(channel, EmailChannel):
        return Email(
            name,
            host=channel.host,
            port=channel.port,
            sender=channel.sender,
            to=channel.to,
            tls=channel.tls,
            username=channel.username,
            password_file=channel.password_file,
        )
    if isinstance(channel, AlertmanagerChannel):
        if alerts is None:
            raise ConfigError(
                f"notifiers.{name}: there is no Alertmanager to post to; set alertmanager.urls"
            )
        return AlertmanagerNotifier(name, alerts, clock=clock, open_notices=open_notices)
    access = Access(token_file=channel.token_file, ca_file=channel.ca_file)
    webhook = Webhook(
        name, channel.url, clock=clock, access=access, secret_file=channel.secret_file
    )
    stack.push_async_callback(webhook.close)
    return webhook


def _access(where: HttpAuth) -> Access:
    return Access(
        token_file=where.token_file,
        username=where.username,
        password_file=where.password_file,
        ca_file=where.ca_file,
        cert_file=where.cert_file,
        key_file=where.key_file,
    )
