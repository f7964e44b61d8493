"""Every command in README.md and docs/ is run: a page that tells you to type it has typed it.

How a command is run depends on its first word, and one that no rule knows fails:

- `healer …`: for real, as the installed program, in a folder that holds what the README says it
  holds, against a running API over a real journal with an episode that waits for a person.
  `healer serve` is started, found ready, and ended by SIGTERM. `healer doctor` finds what the
  README's setting names unreachable here, and must say so.
- `kubectl …`, alone or in a pipe: for real, on the test bed's cluster (ring `cluster`).
- `make …`: dry, by `make -n`, because these run this very test, or take minutes. The targets
  themselves are exercised elsewhere: `.ci/run` runs `check` and `test`, and what `demo` starts is
  what tests/acceptance/test_healing.py starts.
"""

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import yaml

from healer.kernel.clock import SystemClock
from healer.settings import load
from healer.store.sqlite import SqliteStore
from tests.bed.builds import kube_program
from tests.bed.cluster import Cluster
from tests.bed.ports import free_port
from tests.cli.test_scaling_import import HPA
from tests.cli.test_scaling_policies import POLICY
from tests.scalers.loads import a_load
from tests.scalers.test_adapter_rules import CONFIG
from tests.web.desk import open_desk, waiting

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md",
         ROOT / "playbooks" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_EPISODE = re.compile(r"\bep-[0-9a-f]{16}\b|\bEPISODE\b")
#: Commands of which the answer here is no, because there is no cluster and no Prometheus.
_SAY_NO = {"doctor": 1}


@dataclass(frozen=True)
class Command:
    """One line of a page that a reader types."""

    page: Path
    line: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.line}"


def commands() -> list[Command]:
    """Every line of every `sh` block, continued lines joined, comments left out."""
    found = []
    for page in PAGES:
        for language, text in _BLOCK.findall(page.read_text()):
            if language != "sh":
                continue
            for line in text.replace("\\\n", " ").splitlines():
                told = " ".join(shlex.split(line, comments=True)) if line.strip() else ""
                if told:
                    found.append(Command(page, line.split("  #")[0].strip()))
    return found


def programs(command: Command) -> list[str]:
    """The first word of each command of the pipe."""
    parts = [shlex.split(part, comments=True) for part in command.line.split("|")]
    return [words[0] for words in parts if words]


ALL = commands()
DRY = [one for one in ALL if programs(one) == ["make"]]
SERVE = [one for one in ALL if one.line.startswith("healer serve")]
HEALER = [one for one in ALL if set(programs(one)) == {"healer"} and one not in SERVE]
CLUSTER = [one for one in ALL if set(programs(one)) in ({"kubectl"}, {"healer", "kubectl"})]


@dataclass
class Reader:
    """Somebody who follows the README: a folder, and a daemon to ask."""

    folder: Path
    environment: dict[str, str]
    episode: str

    async def types(self, line: str) -> tuple[int, str]:
        """Run one line in a shell; exit code and all that was printed."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-o", "pipefail", "-c", _EPISODE.sub(self.episode, line),
            cwd=self.folder, env=self.environment, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()


def settled(folder: Path, ports: dict[str, int]) -> None:
    """What the README has its reader make: a playbook, settings, a token; and what is shipped."""
    playbook, settings = yaml_blocks()[:2]
    (folder / "my-playbooks").mkdir()
    (folder / "my-playbooks" / "replace-crash-looping-pod.yaml").write_text(playbook)
    (folder / "playbooks").symlink_to(ROOT / "playbooks")
    (folder / "deploy").symlink_to(ROOT / "deploy")
    load = a_load(4, 1, noise=0.01, weekly=False)
    rows = [f"{300 * index},{value:.3f}" for index, value in enumerate(load.tolist())]
    (folder / "load.csv").write_text("\n".join(["time,value", *rows]) + "\n")
    (folder / "scaling").mkdir()
    (folder / "scaling" / "web.yaml").write_text(POLICY)
    (folder / "adapter-config.yaml").write_text(CONFIG)
    (folder / "annotated-hpa.yaml").write_text(HPA)
    (folder / "token").write_text("a-token-of-the-reader\n")
    kube = {
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:9"}}],
        "users": [{"name": "none", "user": {"token": "nothing"}}],
    }  # fmt: skip
    (folder / "kubeconfig").write_text(yaml.safe_dump(kube))
    tree = yaml.safe_load(settings)
    tree["sources"]["alertmanager"]["token_files"] = [str(folder / "token")]
    tree["kubernetes"] = {"kubeconfig": str(folder / "kubeconfig")}
    tree["store"] = {"path": str(folder / "healer.db")}
    tree["pause_file"] = str(folder / "pause")
    tree["prometheus"]["url"] = "http://127.0.0.1:9"
    tree["alertmanager"]["urls"] = ["http://127.0.0.1:9"]
    for name, port in ports.items():
        tree["listen"].setdefault(name, {}).update({"host": "127.0.0.1", "port": port})
    (folder / "healer.yaml").write_text(yaml.safe_dump(tree))


def yaml_blocks() -> list[str]:
    """The README's YAML: a playbook, settings, a receiver of Alertmanager."""
    text = (ROOT / "README.md").read_text()
    return [body for language, body in _BLOCK.findall(text) if language == "yaml"]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    settled(tmp_path, {name: free_port() for name in ("webhook", "api", "health")})
    async with AsyncExitStack() as stack:
        journal = tmp_path / "desk.db"
        store = await SqliteStore.open(journal, clock=SystemClock(), accept_seconds=5.0)
        stack.push_async_callback(store.close)
        desk = await open_desk(store, stack)
        episode, _ = await waiting(store)
        environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "HEALER_SERVER": desk.url,
        }
        yield Reader(tmp_path, environment, episode.id)


def test_every_command_has_a_rule() -> None:
    """No command on any page is passed over: each is run by one of the tests below."""
    unknown = [str(one) for one in ALL if one not in (*DRY, *SERVE, *HEALER, *CLUSTER)]
    assert unknown == [], "add a rule for them to tests/docs/test_commands.py"
    assert len(HEALER) > 5
    assert DRY
    assert SERVE


@pytest.mark.parametrize("command", HEALER, ids=str)
async def test_a_healer_command_does_what_the_page_says(reader: Reader, command: Command) -> None:
    """The line, typed as it stands, ends with the exit code of a success."""
    words = shlex.split(command.line)
    code, said = await reader.types(command.line)
    assert code == _SAY_NO.get(words[1], 0), said
    assert said.strip() or words[1] in {"rbac", "schema"}
    if words[1] == "doctor":
        assert "127.0.0.1:9" in said, said


@pytest.mark.parametrize("command", SERVE, ids=str)
async def test_the_daemon_starts_as_the_page_says(reader: Reader, command: Command) -> None:
    """With the README's settings the daemon gets ready without a cluster, and ends by SIGTERM."""
    settings = load(reader.folder / "healer.yaml", {})
    process = await asyncio.create_subprocess_exec(
        *shlex.split(command.line), cwd=reader.folder, env=reader.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{settings.listen.health.port}/readyz"
        async with asyncio.timeout(30), aiohttp.ClientSession() as http:
            while not await _answers(http, url):
                assert process.returncode is None, (await process.communicate())[0].decode()
                await asyncio.sleep(0.1)  # noqa: TID251 - polls another process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


async def _answers(http: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with http.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


@pytest.mark.parametrize("command", DRY, ids=str)
async def test_a_make_target_is_there(command: Command) -> None:
    """`make -n` knows the target and all that it depends on."""
    process = await asyncio.create_subprocess_exec(
        "make", "-n", *shlex.split(command.line)[1:], cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert out.strip()


@pytest.mark.cluster
@pytest.mark.parametrize("command", CLUSTER, ids=str)
async def test_a_kubectl_command_does_what_the_page_says(
    cluster: Cluster, reader: Reader, command: Command
) -> None:
    """The line, typed as it stands, is accepted by a real API server."""
    shim = reader.folder / "bin"
    shim.mkdir()
    program = " ".join(shlex.quote(word) for word in kube_program("kubectl"))
    (shim / "kubectl").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (shim / "kubectl").chmod(0o755)
    reader.environment["PATH"] = f"{shim}:{reader.environment['PATH']}"
    reader.environment["KUBECONFIG"] = str(cluster.kubeconfig)
    code, said = await reader.types(command.line)
    assert code == 0, said


def test_the_readmes_yaml_is_what_it_says(tmp_path: Path) -> None:
    """README.md shows one playbook, settings that load, and a receiver, in this order."""
    playbook, settings, receiver = (yaml.safe_load(text) for text in yaml_blocks())
    assert playbook["kind"] == "Playbook"
    assert playbook["metadata"]["name"] == "replace-crash-looping-pod"
    (tmp_path / "healer.yaml").write_text(yaml.safe_dump(settings))
    assert load(tmp_path / "healer.yaml", {}).autonomy.ceiling == "observe"
    (hook,) = receiver["receivers"][0]["webhook_configs"]
    assert (hook["send_resolved"], hook["max_alerts"]) == (True, 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link names a file that is there and, if it says so, a heading in it."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists():
            wrong.append(f"{target}: no such file")
        elif heading and heading not in headings(file):
            wrong.append(f"{target}: no such heading")
    assert wrong == []


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
