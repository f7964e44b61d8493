"""Banned calls, found in the syntax trees of the source; and the rights of what is shipped."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from healer.cli.rights import manifests, needed
from healer.playbook_yaml import load_paths
from healer.playbook_yaml.registry import shipped_registry

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("healer", "scalers") for path in (ROOT / room).rglob("*.py"))
CALLS = frozenset({
    "eval", "exec", "__import__", "os.system", "os.popen", "os.execv", "os.execvp", "os.spawnv",
    "subprocess.getoutput", "subprocess.getstatusoutput", "marshal.loads", "shelve.open",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "tempfile.mktemp", "os.tempnam",
    "ssl._create_unverified_context", "random.random", "random.choice",
})  # fmt: skip
MODULES = frozenset({"pickle", "cPickle", "dill", "shelve", "marshal", "jinja2", "telnetlib"})
LOADERS = frozenset({"SafeLoader", "yaml.SafeLoader", "_UniqueKeys"})
#: Where a clock of the machine may be read: everything else takes a Clock.
CLOCK = ROOT / "healer" / "kernel" / "clock.py"


def faults(tree: ast.AST, path: Path) -> Iterator[str]:
    """What is banned and stands in the tree."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found = {name.name.partition(".")[0] for name in names} & MODULES
                yield from (f"{node.lineno}: import {name}" for name in found)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                yield f"{node.lineno}: from {module}"
            case ast.Attribute(attr="CERT_NONE"):
                yield f"{node.lineno}: CERT_NONE"
            case ast.Assign(targets=[ast.Attribute(attr="check_hostname")]):
                yield f"{node.lineno}: check_hostname is set"
            case ast.Call():
                yield from _call_faults(node, path)


def _call_faults(node: ast.Call, path: Path) -> Iterator[str]:
    name = ast.unparse(node.func)
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    at = f"{node.lineno}: {name}"
    if name in CALLS:
        yield at
    if name.startswith(("subprocess.", "asyncio.create_subprocess_shell")):
        yield at
    if (
        given.get("shell") == "True"
        or given.get("ssl") == "False"
        or given.get("verify") == "False"
    ):
        yield f"{at} switches a safeguard off"
    if given.get("allow_redirects") == "True" or given.get("trust_env") == "True":
        yield f"{at} goes where the answer or the environment says"
    if name == "yaml.load":
        loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader", "")
        if loader not in LOADERS:
            yield f"{at} with {loader or 'no'} loader"
    if name in {"time.time", "time.monotonic", "datetime.now", "datetime.utcnow"} and path != CLOCK:
        yield at
    request = name.endswith((".session.request", "_session.request", "session.get"))
    request = request or (name.endswith("request") and "_opened" in name)
    if (request or name.endswith("_session.get")) and "timeout" not in given:
        yield f"{at} without a timeout"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_banned_is_called(path: Path) -> None:
    """No file evaluates text, unpickles, starts a shell, trusts anybody or waits for ever."""
    assert list(faults(ast.parse(path.read_text()), path)) == []


@pytest.mark.parametrize(
    "line",
    [
        "eval('1')", "import pickle", "from jinja2 import Template", "os.system('x')",
        "subprocess.run('x', shell=True)", "subprocess.run(['x'])", "yaml.load(text)",
        "yaml.load(text, yaml.Loader)", "yaml.load(text, Loader=Loader)", "time.time()",
        "context.verify_mode = ssl.CERT_NONE", "context.check_hostname = False",
        "session.request('GET', url, ssl=False, timeout=1)", "self._session.request('GET', url)",
        "self._opened().request('GET', url)", "tempfile.mktemp()", "get(url, verify=False)",
        "ClientSession(trust_env=True)",
    ],
)  # fmt: skip
def test_the_search_finds(line: str) -> None:
    """Each banned call is found, so a clean result means that there is none."""
    assert list(faults(ast.parse(line), Path("x.py")))


def test_the_rights_of_what_is_shipped_are_exact() -> None:
    """`healer rbac` for every shipped playbook names no `*`, Secret, exec, proxy or RBAC verb."""
    registry = shipped_registry()
    playbooks = load_paths([ROOT / "playbooks"], registry).playbooks
    assert len(playbooks) > 20
    rights = needed(playbooks, registry)
    roles = [
        one
        for one in manifests(rights, (), "healer", "healer")
        if one["kind"] in {"Role", "ClusterRole"}
    ]
    assert roles
    for rule in (rule for role in roles for rule in role["rules"]):
        assert "nonResourceURLs" not in rule
        for word in (*rule["apiGroups"], *rule["resources"], *rule["verbs"]):
            assert "*" not in word
        assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
        assert not {"escalate", "bind", "impersonate", "deletecollection"} & set(rule["verbs"])
        for resource in rule["resources"]:
            assert resource.partition("/")[0] not in {"secrets", "serviceaccounts"}
            assert resource.partition("/")[2] not in {
                "exec", "attach", "portforward", "proxy", "token", "ephemeralcontainers",
            }  # fmt: skip
