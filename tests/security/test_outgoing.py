"""What leaves healer: to whom, with which name, and never with a secret in an error."""

import asyncio
import ipaddress
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from kubernetes_asyncio.client import Configuration

from healer.clients.http import forbidden
from healer.clients.kube.access import Access
from healer.clients.kube.connection import Connection
from healer.clients.kube.credentials import FixedCredential
from healer.clients.kube.errors import Call
from healer.clients.notify.slack import Slack
from healer.domain.message import Notice, NoticeEvent, Severity
from healer.errors import ConfigError, HealerError
from healer.kernel.running import acting_for
from healer.ports import Message
from healer.testing.builders import a_playbook
from tests.engine.stage import a_stage

INSIDE = [
    "127.0.0.1", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "0.0.0.0", "::", "10.1.2.3",
    "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "::ffff:169.254.169.254",
    "64:ff9b::a00:1", "64:ff9b:1::a00:1", "::ffff:0:10.0.0.1", "::10.0.0.1", "2002:a00:1::",
    "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "224.0.0.1", "ff02::1", "255.255.255.255",
    "240.0.0.1", "192.0.0.8", "192.88.99.1", "198.18.0.1", "168.63.129.16", "192.0.0.192",
    "100.100.100.200", "0.1.2.3", "2001:db8::1", "5f00::1",
]  # fmt: skip
METADATA = [
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "fd00:ec2::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "::ffff:0:169.254.169.254",
]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_is_sent_inside(address: str) -> None:
    """No address that is not one public host is called, in whichever notation it hides."""
    assert forbidden(ipaddress.ip_address(address), internal=False)


@pytest.mark.parametrize("address", METADATA)
def test_metadata_is_refused_for_internal_hosts_too(address: str) -> None:
    """Where clouds hand out credentials, nothing is sent even for a host listed as internal."""
    assert forbidden(ipaddress.ip_address(address), internal=True)


def test_public_addresses_pass() -> None:
    """Ordinary public addresses may be called."""
    for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"):
        assert forbidden(ipaddress.ip_address(address), internal=False) == ""


@pytest.mark.parametrize(
    "answer", [b"GARBAGE\r\n\r\n", b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", b""]
)
async def test_a_broken_answer_does_not_tell_the_webhook_address(
    tmp_path: Path, answer: bytes
) -> None:
    """Whatever Slack's place answers, neither error nor traceback holds the secret address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    file = tmp_path / "url"
    file.write_text(f"http://127.0.0.1:{port}/services/T0/B0/s3cr3t")
    slack = Slack("ops", url_file=file)
    notice = Notice(NoticeEvent.TRIGGER, Severity.INFO, "title", "text", 1.0)
    try:
        with pytest.raises(HealerError) as raised:
            await slack.send(Message("m-1", "ops", notice.to_mapping()))
    finally:
        await slack.close()
        server.close()
    told = "".join(traceback.format_exception(raised.value))
    assert "s3cr3t" not in told
    assert "s3cr3t" not in repr(slack)


@pytest.fixture
async def seen() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that notes each User-Agent, and its address."""
    agents: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        agents.append(request.headers["User-Agent"])
        return web.json_response({})

    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", agents
    await runner.cleanup()


async def test_the_audit_log_names_the_run(seen: tuple[str, list[str]]) -> None:
    """Calls made for a run carry its id in the User-Agent, calls beside it do not."""
    url, agents = seen
    configuration = Configuration()
    configuration.host = url
    connection = Connection(Access(configuration, FixedCredential("")))
    try:
        with acting_for("run-7"):
            await connection.call("GET", "/version", Call("get", "/version"))
        await connection.call("GET", "/version", Call("get", "/version"))
    finally:
        await connection.close()
    assert agents[0].startswith("healer/")
    assert agents[0].endswith(" run/run-7")
    assert "run/" not in agents[1]


async def test_each_effect_is_made_for_its_run(tmp_path: Path) -> None:
    """While an action acts, its calls are marked with the id of its run."""
    from healer.kernel.running import current_run

    async with a_stage(tmp_path, a_playbook()) as stage:
        marks: list[str] = []
        delete = stage.cluster.delete

        async def noting(*args: object, **more: object) -> None:
            marks.append(current_run())
            await delete(*args, **more)  # type: ignore[arg-type]

        stage.cluster.delete = noting  # type: ignore[method-assign]
        pod = stage.pod()
        stage.break_pod(pod)
        episode = await stage.fire(pod)
        await stage.settle()
        (run,) = await stage.store.runs(episode)
        assert marks == [run.id]
        assert current_run() == ""


def test_an_unverified_api_server_is_refused() -> None:
    """A kubeconfig that switches verification off is refused, with what to give instead."""
    configuration = Configuration()
    configuration.host = "https://127.0.0.1:1"
    configuration.verify_ssl = False
    with pytest.raises(ConfigError, match="give certificate-authority"):
        Connection(Access(configuration, FixedCredential("")))
