"""`healer doctor`: does everything that healer depends on answer, and what to do if not."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from healer.cli.daemon import config_option, secret_files
from healer.cli.output import machine, output_option, table
from healer.errors import HealerError
from healer.kernel.clock import SystemClock
from healer.kernel.secrets import SecretFile
from healer.logs import configure
from healer.settings import Settings, load

#: Clocks may differ by this much; leases and staleness are judged in tens of seconds. Seconds.
SKEW_SECONDS = 5.0
#: One check may take this long. Seconds.
CHECK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: `ok`, `bad`, or `off` for what is not configured."""

    check: str
    state: str
    detail: str


@click.command()
@config_option
@output_option
def doctor(config: Path | None, output: str) -> None:
    """Check settings, playbooks, journal, API server and rights, Prometheus, Alertmanager, clocks.

    Changes nothing. Exit code 1 when something is wrong.
    """
    settings = load(config, os.environ)
    configure("error", "text")  # what goes wrong is in the findings
    found = asyncio.run(_all(settings))
    rows = [{"check": one.check, "state": one.state, "detail": one.detail} for one in found]
    if not machine({"checks": rows}, output):
        table(["check", "state", "detail"], [list(row.values()) for row in rows], "")
    raise SystemExit(1 if any(one.state == "bad" for one in found) else 0)


async def _all(settings: Settings) -> list[Finding]:
    found = [Finding("settings", "ok", "valid"), *_secrets(settings)]
    async with AsyncExitStack() as stack:
        for name, check in (
            ("journal", _journal(settings)),
            ("kubernetes", _kubernetes(settings, stack)),
            ("prometheus", _prometheus(settings, stack)),
            ("alertmanager", _alertmanager(settings, stack)),
        ):
            try:
                async with asyncio.timeout(CHECK_SECONDS):
                    async for finding in check:
                        found.append(finding)  # noqa: PERF401 - kept when a later one raises
            except TimeoutError:
                found.append(Finding(name, "bad", f"no answer within {CHECK_SECONDS:g} s"))
            except HealerError as error:
                found.append(Finding(name, "bad", str(error)))
    return found


def _secrets(settings: Settings) -> list[Finding]:
    found = []
    for path in secret_files(settings):
        try:
            SecretFile(path).read()
        except (OSError, ValueError) as error:
            found.append(Finding("secret file", "bad", f"{path}: {error}; put it on line one"))
        else:
            found.append(Finding("secret file", "ok", str(path)))
    return found


async def _journal(settings: Settings) -> AsyncIterator[Finding]:
    if settings.store.shared:
        from healer.store.assembly import look_at_postgres

        yield _schema(*await look_at_postgres(settings.store))
        return
    path = settings.store.path
    folder = path.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        yield Finding("journal", "bad", f"{folder} cannot be written; create it or set store.path")
        return
    free = os.statvfs(folder)
    mebibytes = free.f_bavail * free.f_frsize >> 20
    state = "ok" if mebibytes >= 256 else "bad"
    more = "" if state == "ok" else "; make room: a full disk answers every delivery 503"
    yield Finding("journal", state, f"{path}: {mebibytes} MiB are free{more}")


def _schema(found: int, known: int) -> Finding:
    if found > known + 1:
        told = f"schema {found} is of a newer healer (this one knows {known}); install that again"
        return Finding("journal", "bad", told)
    if not found:
        told = "it holds no journal yet; healer makes one when it starts"
    elif found < known:
        told = f"its schema {found} becomes {known} when healer starts"
    else:
        told = "its schema is up to date"
    return Finding("journal", "ok", f"PostgreSQL answers; {told}")


async def _kubernetes(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    from healer.cli.rights import needed
    from healer.clients.assembly import open_cluster
    from healer.playbook_yaml import load_paths
    from healer.playbook_yaml.registry import shipped_registry

    registry = shipped_registry()
    try:
        playbooks = load_paths(settings.playbooks.paths, registry).playbooks
    except HealerError as error:
        yield Finding("playbooks", "bad", str(error))
        playbooks = ()
    else:
        state = "ok" if playbooks else "bad"
        where = ", ".join(str(path) for path in settings.playbooks.paths)
        yield Finding("playbooks", state, f"{len(playbooks)} in {where}")
    cluster = await open_cluster(settings, stack, SystemClock())
    await cluster.zones()
    yield Finding("kubernetes", "ok", "the API server answers")
    namespaces = ("",) if settings.kubernetes.everywhere else settings.kubernetes.namespaces
    missing = [
        told
        for right in needed(playbooks, registry)
        for namespace in namespaces
        if (told := await cluster.missing_right(right, namespace))
    ]
    for told in missing:
        yield Finding("rights", "bad", f"{told}; apply the output of `healer rbac`")
    if not missing:
        yield Finding("rights", "ok", "all that the playbooks need")


async def _prometheus(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    from healer.clients.assembly import open_prometheus

    clock = SystemClock()
    metrics = await open_prometheus(settings, stack, clock)
    if metrics is None:
        yield Finding("prometheus", "off", "prometheus.url is not set")
        return
    await metrics.ready()
    yield Finding("prometheus", "ok", settings.prometheus.url)
    began = clock.now()
    (sample,) = await metrics.query("time()")
    off = sample.value - (began + clock.now()) / 2
    state = "ok" if abs(off) <= SKEW_SECONDS else "bad"
    more = "" if state == "ok" else "; let both machines follow NTP"
    yield Finding("clock", state, f"Prometheus' clock is {off:+.1f} s from ours{more}")


async def _alertmanager(settings: Settings, stack: AsyncExitStack) -> AsyncIterator[Finding]:
    from healer.clients.assembly import open_alertmanager

    alerts = await open_alertmanager(settings, stack, SystemClock())
    if alerts is None:
        yield Finding(
            "alertmanager", "off", "alertmanager.urls is not set: a lost webhook is not noticed"
        )
        return
    await alerts.ready()
    yield Finding("alertmanager", "ok", ", ".join(settings.alertmanager.urls))


COMMANDS = (doctor,)
