"""The real `healer` command in a process of its own, against a real API and a real journal."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.kernel.clock import SystemClock
from healer.store.sqlite import SqliteStore
from tests.web.desk import Desk, open_desk, waiting

BIN = Path(sys.executable).parent
PLAYBOOK = """\
apiVersion: healer.dev/v1alpha1
kind: Playbook
metadata:
  name: restart-it
spec:
  summary: Deletes a pod that is stuck.
  mode: approve
  when:
    alert: '{alertname="Down"}'
  target:
    kind: Pod
    namespace: ${labels.namespace}
    name: ${labels.pod}
  steps:
    - name: again
      action: delete_pod
      verify:
        probes: [alert_resolved: {}]
"""


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


async def healer(*words: str, env: dict[str, str] | None = None, name: str = "healer") -> Said:
    """Run the command."""
    process = await asyncio.create_subprocess_exec(
        BIN / name, *words,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **(env or {})},
    )  # fmt: skip
    out, err = await process.communicate()
    said = Said(process.returncode or 0, out.decode(), err.decode())
    assert "Traceback" not in said.err, said.err
    return said


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        path = tmp_path / "healer.db"
        store = await SqliteStore.open(path, clock=SystemClock(), accept_seconds=5.0)
        stack.push_async_callback(store.close)
        yield await open_desk(store, stack)


async def asked(desk: Desk, *words: str) -> Said:
    """The command, asking this API."""
    return await healer(*words, env={"HEALER_SERVER": desk.url})


async def test_help_names_every_exit_code() -> None:
    """`healer --help` lists commands and exit codes and is a success."""
    said = await healer("--help")
    assert said.code == 0
    assert "5 no such thing" in said.out
    assert (await healer("nonsense")).code == 2


async def test_it_is_a_kubectl_plugin() -> None:
    """As `kubectl-healer` it is the same program and calls itself `kubectl healer`."""
    said = await healer("--help", name="kubectl-healer")
    assert "Usage: kubectl healer" in said.out


async def test_an_unreachable_daemon_is_3() -> None:
    """Without a daemon the answer is one line with the remedy and exit code 3."""
    said = await healer("episodes", "--server", "http://127.0.0.1:9")
    assert said.code == 3
    assert said.err.startswith("error: http://127.0.0.1:9 cannot be reached")
    assert "--server" in said.err
    assert len(said.err.splitlines()) == 1


async def test_a_wrong_address_is_2() -> None:
    """An address that is no URL is a usage error."""
    assert (await healer("episodes", "--server", "ftp://x")).code == 2
    assert (await healer("episodes", "--token-file", "/nonexistent")).code == 2


async def test_an_episode_is_listed_and_explained(desk: Desk) -> None:
    """`episodes` and `explain` show it as a table and as JSON and YAML."""
    assert (await asked(desk, "episodes")).err == "No episodes.\n"
    episode, plan = await waiting(desk.store)
    said = await asked(desk, "episodes")
    assert said.code == 0
    assert episode.id in said.out
    assert "awaiting_approval" in said.out
    assert "\x1b" not in said.out
    as_json = json.loads((await asked(desk, "episodes", "-o", "json")).out)
    as_yaml = yaml.safe_load((await asked(desk, "episodes", "-o", "yaml")).out)
    assert as_json["episodes"][0]["id"] == as_yaml["episodes"][0]["id"] == episode.id
    said = await asked(desk, "explain", episode.id[:10])
    assert said.code == 0
    for word in ["waits for a person", "approval_needed", plan.digest[:12], "delete_pod", "to do"]:
        assert word in said.out, word
    assert episode.id in (await asked(desk, "runs")).out
    assert (await asked(desk, "explain", "ep-unknown")).code == 5


async def test_approving_is_for_the_plan_that_was_shown(desk: Desk) -> None:
    """`approve` needs a yes or `-y`, shows the plan, refuses another one, and answers once."""
    episode, plan = await waiting(desk.store)
    unanswered = await asked(desk, "approve", episode.id)
    assert unanswered.code == 1
    assert plan.digest[:12] in unanswered.out
    assert (await asked(desk, "approve", episode.id, "--plan", "0" * 12)).code == 4
    said = await asked(desk, "approve", episode.id, "-y", "--note", "ok by me")
    assert said.code == 0
    assert f"approved plan {plan.digest[:12]}" in said.out
    assert (await asked(desk, "approve", episode.id, "-y")).code == 4
    assert (await asked(desk, "ack", episode.id)).code == 4


async def test_pausing_and_going_on(desk: Desk) -> None:
    """`pause` stops, `pauses` says who and why, `resume` ends it, and twice is 5."""
    assert (await asked(desk, "pauses")).err == "Nothing is paused.\n"
    said = await asked(desk, "pause", "game day", "-n", "shop", "--for", "2h")
    assert said.code == 0
    pause_id = said.out.split(":")[0]
    listed = await asked(desk, "pauses")
    assert "namespace shop" in listed.out
    assert "game day" in listed.out
    assert "paused" in (await asked(desk, "status")).out
    assert (await asked(desk, "resume", pause_id)).code == 0
    assert (await asked(desk, "resume", pause_id)).code == 5
    assert (await asked(desk, "resume")).code == 2
    assert (await asked(desk, "pause", "x", "--for", "soon")).code == 2


async def test_terminal_escapes_in_labels_are_not_printed(desk: Desk) -> None:
    """Text from outside cannot drive the terminal."""
    reason = "\x1b[31mred\x07 [bold]x[/bold]"
    await asked(desk, "pause", reason)
    said = await asked(desk, "pauses")
    assert "\x1b" not in said.out
    assert "?[31mred? [bold]x[/bold]" in said.out


@pytest.fixture
def playbook(tmp_path: Path) -> Path:
    path = tmp_path / "restart-it.yaml"
    path.write_text(PLAYBOOK)
    return path


async def test_validate_names_every_place(playbook: Path) -> None:
    """A valid playbook is 0; a faulty one is 2 with file:line:column."""
    said = await healer("validate", str(playbook))
    assert (said.code, said.err) == (0, "")
    assert "restart-it" in said.out
    playbook.write_text(PLAYBOOK.replace("delete_pod", "delete_pot"))
    said = await healer("validate", str(playbook))
    assert said.code == 2
    assert f"{playbook}:16:" in said.err
    faults = json.loads((await healer("validate", "-o", "json", str(playbook))).out)["faults"]
    assert [fault["line"] for fault in faults] == [16]
    assert (await healer("validate", str(playbook.parent / "gone"))).code == 2
    assert (await healer("validate")).code == 2


async def test_test_runs_the_cases(playbook: Path) -> None:
    """`test` is 0 when every case holds, and warns of a playbook without any."""
    said = await healer("test", str(playbook))
    assert said.code == 0
    assert "0 failures" in said.out
    assert "restart-it has no case" in said.err


async def test_the_schema_is_json() -> None:
    """`schema` prints a JSON Schema that names the actions."""
    schema = json.loads((await healer("schema")).out)
    assert "delete_pod" in json.dumps(schema)


async def test_rbac_is_exact(playbook: Path) -> None:
    """`rbac` grants what the playbook's action needs, never `*`, and Roles for named namespaces."""
    said = await healer("rbac", str(playbook))
    assert said.code == 0
    assert "*" not in said.out
    role, binding = yaml.safe_load_all(said.out)
    assert (role["kind"], binding["kind"]) == ("ClusterRole", "ClusterRoleBinding")
    verbs = _verbs(role)
    assert {"get", "list", "delete"} <= verbs[("", "pods")]
    assert verbs[("", "events")] == {"create"}
    assert ("", "secrets") not in verbs
    assert "delete" not in verbs[("apps", "deployments")]
    said = await healer("rbac", str(playbook), "-n", "shop", "-n", "web")
    roles = [one for one in yaml.safe_load_all(said.out) if one["kind"] in {"Role", "ClusterRole"}]
    places = [(one["kind"], one["metadata"].get("namespace")) for one in roles]
    assert places == [("ClusterRole", None), ("Role", "shop"), ("Role", "web")]
    assert ("", "nodes") in _verbs(roles[0])
    assert ("", "pods") not in _verbs(roles[0])
    assert ("", "nodes") not in _verbs(roles[1])


def _verbs(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion_is_a_script(shell: str) -> None:
    """`completion` prints a script that calls back into `healer`."""
    said = await healer("completion", shell)
    assert said.code == 0
    assert "_HEALER_COMPLETE" in said.out


async def test_wrong_settings_stop_serve_and_doctor(tmp_path: Path) -> None:
    """A wrong setting ends `serve` and `doctor` with 2 and names its place."""
    config = tmp_path / "healer.yaml"
    config.write_text("log: {level: loud}\n")
    for command in ("serve", "doctor"):
        said = await healer(command, "--config", str(config))
        assert said.code == 2
        assert f"error: {config}: log.level" in said.err
    said = await healer("serve", env={"HEALER_LISTEN__API__HOST": "0.0.0.0"})
    assert said.code == 2
    assert "nobody has a credential" in said.err


async def test_doctor_names_what_does_not_answer(tmp_path: Path, playbook: Path) -> None:
    """`doctor` checks everything, goes on after a failure, and is 1 when something is wrong."""
    said = await healer(
        "doctor", "-o", "json",
        env={
            "HEALER_STORE__PATH": str(tmp_path / "healer.db"),
            "HEALER_PLAYBOOKS__PATHS": f"[{playbook}]",
            "HEALER_KUBERNETES__KUBECONFIG": str(tmp_path / "none"),
            "HEALER_PROMETHEUS__URL": "http://127.0.0.1:9",
            "HEALER_PROMETHEUS__TOKEN_FILE": str(tmp_path / "no-token"),
        },
    )  # fmt: skip
    assert said.code == 1
    found = {one["check"]: one["state"] for one in json.loads(said.out)["checks"]}
    assert found == {
        "settings": "ok", "secret file": "bad", "journal": "ok", "playbooks": "ok",
        "kubernetes": "bad", "prometheus": "bad", "alertmanager": "off",
    }  # fmt: skip


async def test_colour_is_only_for_terminals() -> None:
    """Output into a pipe has no colour, whatever TERM says."""
    said = await healer("settings", env={"TERM": "xterm-256color", "NO_COLOR": "1"})
    assert said.code == 0
    assert "\x1b" not in said.out
    assert "HEALER_LISTEN__API__PORT" in said.out
