"""The Dockerfile, read as text: where there is no container engine it cannot be built."""

from __future__ import annotations

import re
import tomllib

from tests.deploy.rendered import DEPLOY, ROOT, base, pod_of

Instruction = tuple[str, str]


def instructions() -> list[list[Instruction]]:
    """(instruction, arguments) of each stage, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    stages: list[list[Instruction]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stages.append([])
        stages[-1].append((word, rest))
    return stages


def test_two_slim_stages_of_a_supported_python() -> None:
    """What builds is left behind, and both stages are the same slim Python that healer supports."""
    build, final = instructions()
    images = {stage[0][1].split()[0] for stage in (build, final)}
    assert len(images) == 1
    (image,) = images
    version = re.fullmatch(r"python:3\.(\d+)-slim", image)
    assert version
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: 3.{version[1]}" in supported
    assert [word for word, _ in final].count("RUN") == 0
    assert [rest for word, rest in final if word == "COPY"] == [
        "--from=build /opt/healer /opt/healer"
    ]


def test_packages_come_by_hash() -> None:
    """Packages are wheels from the lock, by hash; healer brings none; pip is gone after."""
    build, _ = instructions()
    installs = [rest for word, rest in build if word == "RUN" and "install" in rest]
    assert "--require-hashes --only-binary :all: -r requirements/runtime.txt" in installs[0]
    assert "install --no-deps ." in installs[1]
    assert "uninstall --yes setuptools pip" in installs[1]
    assert len(installs) == 2


def test_it_runs_as_the_pods_user() -> None:
    """The image's user is a number, and the one that the pod runs as."""
    _, final = instructions()
    (user,) = [rest for word, rest in final if word == "USER"]
    context = pod_of(base())["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert not any(word == "ADD" for stage in instructions() for word, _ in stage)


def test_what_is_copied_exists_and_is_let_in() -> None:
    """Every path the build copies exists and passes the ignore file, which shuts out the rest."""
    build, _ = instructions()
    copied = [path for word, rest in build if word == "COPY" for path in rest.split()[:-1]]
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignore[0] == "*"
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignore, path


def test_the_deployment_runs_this_version() -> None:
    """The image's tag is healer's version, and the arguments are what its entrypoint takes."""
    import healer

    (container,) = pod_of(base())["containers"]
    assert container["image"] == f"healer:{healer.__version__}"
    assert f"healer:{healer.__version__}" in (DEPLOY / "Dockerfile").read_text()
    _, final = instructions()
    assert ("ENTRYPOINT", '["healer"]') in final
    assert container["args"] == ["serve", "--config", "/etc/healer/healer.yaml"]
    assert "command" not in container


def test_the_image_can_use_a_shared_journal() -> None:
    """What PostgreSQL needs is locked for the image, in the version that the tests use."""

    def pin(file: str) -> list[str]:
        text = (ROOT / "requirements" / file).read_text()
        return re.findall(r"^asyncpg==\S+", text, re.MULTILINE)

    assert len(pin("runtime.txt")) == 1
    assert pin("runtime.txt") == pin("dev.txt")
