"""Where the Kubernetes client finds its API server and its credential."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.clients.kube.access import find_access, from_kubeconfig, in_cluster
from healer.clients.kube.caching import Kept
from healer.clients.kube.credentials import FixedCredential
from healer.errors import ConfigError, Unauthorized, Unreachable
from healer.testing.clock import FakeClock


def kubeconfig(path: Path, user: dict[str, Any], **cluster: Any) -> str:
    """A kubeconfig with the contexts `one` (current) and `two`."""
    clusters = [
        {"name": name, "cluster": {"server": f"https://{name}.invalid:6443/", **cluster}}
        for name in ("one", "two")
    ]
    contexts = [{"name": n, "context": {"cluster": n, "user": "me"}} for n in ("one", "two")]
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "one", "clusters": clusters,
        "contexts": contexts, "users": [{"name": "me", "user": user}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return str(path)


async def test_the_named_context_is_taken(tmp_path: Path) -> None:
    """Without a name the file's current context is taken, with one the named, and never another."""
    path = kubeconfig(tmp_path / "config", {"token": "t"})
    assert (await from_kubeconfig(FakeClock(), path)).host == "https://one.invalid:6443"
    named = await from_kubeconfig(FakeClock(), path, "two")
    assert named.host == "https://two.invalid:6443"
    assert await named.credential.header() == "Bearer t"
    assert not await named.credential.renew()
    with pytest.raises(ConfigError, match="context 'three' cannot be used"):
        await from_kubeconfig(FakeClock(), path, "three")


@pytest.mark.parametrize("content", ["", "[]", "kind: Config", "a: [", "clusters: 3"])
async def test_a_broken_kubeconfig_is_a_config_error(tmp_path: Path, content: str) -> None:
    """Whatever is wrong with a kubeconfig, the error names the file."""
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(ConfigError, match=str(path)):
        await from_kubeconfig(FakeClock(), str(path))
    with pytest.raises(ConfigError, match="absent"):
        await from_kubeconfig(FakeClock(), str(tmp_path / "absent"))


async def test_the_environment_is_read_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$KUBECONFIG counts as it is now, not as it was when the library was imported."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", {"token": "t"}))
    assert (await find_access(FakeClock())).host == "https://one.invalid:6443"


async def test_a_token_file_of_a_kubeconfig_is_followed(tmp_path: Path) -> None:
    """`tokenFile` is found beside the kubeconfig and its changes are seen."""
    (tmp_path / "token").write_text("first\n")
    path = kubeconfig(tmp_path / "config", {"tokenFile": "token"})
    access = await from_kubeconfig(FakeClock(), path)
    assert await access.credential.header() == "Bearer first"
    (tmp_path / "token").write_text("second one\n")
    assert await access.credential.renew()
    assert await access.credential.header() == "Bearer second one"
    (tmp_path / "token").unlink()
    with pytest.raises(Unauthorized, match="token"):
        await access.credential.header()


async def test_a_pod_uses_its_service_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pod the address comes from the environment and the token has no line break."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    token, authority = tmp_path / "token", tmp_path / "ca.crt"
    authority.write_text("a certificate")
    with pytest.raises(ConfigError, match="service account"):
        in_cluster(token, authority)
    token.write_text("mounted\n")
    access = in_cluster(token, authority)
    assert access.host == "https://[fd00::1]:443"
    assert await access.credential.header() == "Bearer mounted"


def plugin(folder: Path, expiry: str) -> dict[str, Any]:
    """A credential plug-in that counts how often it was asked, and gives that as the token."""
    script = folder / "plugin.py"
    given: dict[str, str] = {"expirationTimestamp": expiry} if expiry else {}
    script.write_text(
        f"import json, pathlib\nasked = pathlib.Path({str(folder / 'asked')!r})\n"
        "count = int(asked.read_text()) + 1 if asked.exists() else 1\n"
        "asked.write_text(str(count))\n"
        "api = 'client.authentication.k8s.io/v1'\n"
        f"status = {{'token': f't{{count}}', **{given!r}}}\n"
        "print(json.dumps({'apiVersion': api, 'kind': 'ExecCredential', 'status': status}))\n"
    )
    api = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": api, "command": sys.executable, "args": [str(script)]}}


async def test_a_plugin_without_expiry_is_asked_again_only_after_a_refusal(tmp_path: Path) -> None:
    """A plug-in's lasting token is kept until the API server refuses it."""
    clock = FakeClock()
    path = kubeconfig(tmp_path / "config", plugin(tmp_path, ""))
    access = await from_kubeconfig(clock, path)
    clock.advance(3600)
    assert await access.credential.header() == "Bearer t1"
    assert await access.credential.renew()
    assert await access.credential.header() == "Bearer t2"


async def test_a_plugin_whose_token_expires_is_asked_again(tmp_path: Path) -> None:
    """A token with an expiry is fetched anew once it is close to it."""
    clock = FakeClock()
    path = kubeconfig(tmp_path / "config", plugin(tmp_path, "2020-01-01T00:00:00Z"))
    access = await from_kubeconfig(clock, path)
    assert await access.credential.header() == "Bearer t1"
    clock.advance(61)
    assert await access.credential.header() == "Bearer t2"
    (tmp_path / "plugin.py").write_text("raise SystemExit(3)")
    clock.advance(61)
    with pytest.raises(Unauthorized, match="could not be renewed"):
        await access.credential.header()


def test_a_secret_is_not_shown() -> None:
    """A credential's text shows nothing of its token."""
    assert "very-secret" not in json.dumps(repr(vars(FixedCredential("very-secret"))))


# ------------------------------------------------------------------------------ kept answers


async def test_a_kept_answer_is_loaded_once_and_renewed_ahead() -> None:
    """Young values are given as they are, older ones given and renewed, too old ones awaited."""
    clock = FakeClock()
    loads: list[str] = []

    async def load(key: str) -> int:
        loads.append(key)
        return len(loads)

    kept = Kept(clock, 10.0, load)
    assert await kept.get("a") == 1
    clock.advance(4)
    assert await kept.get("a") == 1
    assert loads == ["a"]
    clock.advance(2)
    assert await kept.get("a") == 1  # older than half: renewed behind our back
    await kept._renewals["a"]
    assert await kept.get("a") == 2
    assert await kept.get("a", no_older_than=0.0) == 2  # loaded at this very moment
    clock.advance(11)
    assert await kept.get("a") == 3
    assert await kept.get("b") == 4
    await kept.close()


async def test_a_failed_load_is_raised_and_not_kept() -> None:
    """A failure reaches who waits for the value; the next one asks anew."""
    clock = FakeClock()
    fail = True

    async def load(key: str) -> str:
        if fail:
            raise Unreachable("no connection", sent=False)
        return key

    kept = Kept(clock, 10.0, load)
    with pytest.raises(Unreachable):
        await kept.get("a")
    fail = False
    assert await kept.get("a") == "a"
    fail = True
    clock.advance(6)
    assert await kept.get("a") == "a"  # still young enough, and renewing fails meanwhile
    await kept._renewals["a"]
    clock.advance(5)
    with pytest.raises(Unreachable):
        await kept.get("a")
