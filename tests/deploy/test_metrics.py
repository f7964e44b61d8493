"""The component `metrics`: the APIServices, and exactly the rights that serving them needs."""

from __future__ import annotations

from pathlib import Path

from healer.cli.rights import rules
from healer.clients.kube.metrics_api import REVIEW, TRUST
from healer.clients.kube.scaling import LOOK
from scalers.apiserver import Listening
from scalers.apiserver.routes import VERSIONS
from tests.deploy.rendered import DEPLOY, base, compose, of_kind, pod_of, the

COMPONENT = DEPLOY / "components" / "metrics"


def test_every_served_version_is_registered_and_the_preferred_one_first(tmp_path: Path) -> None:
    """Each version has its APIService, named as the server expects, with checked certificates."""
    found = {
        o["metadata"]["name"]: o["spec"]
        for o in of_kind(compose(tmp_path, ["metrics"]), "APIService")
    }
    assert set(found) == set(Listening().api_services)
    assert set(found) == {f"{v}.{group}" for group, versions in VERSIONS.items() for v in versions}
    for name, spec in found.items():
        assert f"{spec['version']}.{spec['group']}" == name
        assert "insecureSkipTLSVerify" not in spec
        assert spec["groupPriorityMinimum"] == 100
    for group, versions in VERSIONS.items():
        order = [found[f"{one}.{group}"]["versionPriority"] for one in versions]
        assert order == sorted(order, reverse=True)


def test_the_service_leads_to_the_listener(tmp_path: Path) -> None:
    """APIService, Service, pod and certificate agree on name, namespace and port."""
    objects = compose(tmp_path, ["metrics"])
    wanted = Listening()
    service = the(objects, "Service", wanted.service)
    assert service["metadata"]["namespace"] == wanted.namespace
    (port,) = service["spec"]["ports"]
    for one in of_kind(objects, "APIService"):
        assert one["spec"]["service"] == {
            "name": wanted.service, "namespace": wanted.namespace, "port": port["port"],
        }  # fmt: skip
    (container,) = pod_of(objects)["containers"]
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports[port["targetPort"]] == wanted.port
    labels = the(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (rule,) = the(objects, "NetworkPolicy", "healer-metrics")["spec"]["ingress"]
    assert rule == {"ports": [{"protocol": "TCP", "port": port["targetPort"]}]}


def test_it_grants_what_the_client_needs_and_no_more(tmp_path: Path) -> None:
    """Reviews everywhere, its own APIServices by name, lists of what is scaled, one Role of
    kube-system: to healer only."""
    objects = compose(tmp_path, ["metrics"])
    role = the(objects, "ClusterRole", "healer-metrics")
    named = [{**rule, "resourceNames": list(Listening().api_services)} for rule in rules(TRUST)]
    assert role["rules"] == [*rules([REVIEW]), *named, *rules(LOOK)]
    before = {(o["kind"], o["metadata"]["name"]) for o in base()}
    bindings = [
        o for kind in ("ClusterRoleBinding", "RoleBinding") for o in of_kind(objects, kind)
        if (kind, o["metadata"]["name"]) not in before
    ]  # fmt: skip
    assert {(o["roleRef"]["kind"], o["roleRef"]["name"]) for o in bindings} == {
        ("ClusterRole", "healer-metrics"), ("Role", "extension-apiserver-authentication-reader"),
    }  # fmt: skip
    for one in bindings:
        assert one["subjects"] == [
            {"kind": "ServiceAccount", "name": "healer", "namespace": "healer"}
        ]
    assert the(objects, "RoleBinding")["metadata"]["namespace"] == "kube-system"


def test_one_object_a_file_named_after_it() -> None:
    """Each file of the component holds one object, of the kind its name begins with."""
    import yaml

    for path in COMPONENT.glob("*.yaml"):
        (one,) = yaml.safe_load_all(path.read_text())
        if path.name != "kustomization.yaml":
            assert path.stem.replace("-", "").startswith(one["kind"].lower()), path


def test_uninstalling_begins_with_the_apiservices(tmp_path: Path) -> None:
    """The script names every object that the component adds, and the APIServices before all."""
    text = (COMPONENT / "uninstall.sh").read_text()
    before = {(o["kind"], o["metadata"]["name"]) for o in base()}
    added = [
        o for o in compose(tmp_path, ["metrics"])
        if (o["kind"], o["metadata"]["name"]) not in before
    ]  # fmt: skip
    ends = max(text.index(o["metadata"]["name"]) for o in of_kind(added, "APIService"))
    for one in added:
        if one["kind"] != "APIService":
            place = f"{one['kind'].lower()}/{one['metadata']['name']}"
            assert text.index(place) > ends, place
