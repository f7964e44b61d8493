"""Who is believed: only an API server that proved itself, and only as it says it is configured."""

import asyncio
import json
import socket
import ssl
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from scalers.apiserver import MetricsApiError
from scalers.apiserver.front_proxy import read
from tests.apiserver.stand import HPA, Cluster, everything, external, standing, told
from tests.bed.certificates import Authority

PATH = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/m"


async def test_without_the_front_proxys_certificate_nobody_is_believed(tmp_path: Path) -> None:
    """No certificate, or one with another name, is 401 whatever the headers say."""
    async with standing(tmp_path, external("m", 1)) as stand:
        assert (await stand.get(PATH))[0] == 200
        for client in ("", "somebody"):
            code, status = await stand.get(PATH, groups=["system:masters"], tls=stand.tls(client))
            assert (code, status["kind"], status["reason"]) == (401, "Status", "Unauthorized")
        code, status = await stand.get(PATH, user="")
        assert (code, "named no user" in status["message"]) == (401, True)
        async with stand.session.get(
            f"https://127.0.0.1:{stand.api.port}/apis", ssl=stand.tls(""),
            server_hostname="healer-metrics.healer.svc",
        ) as answer:  # fmt: skip
            assert (answer.status, answer.headers["Connection"]) == (401, "close")


async def test_a_connection_that_was_made_under_another_trust_is_not_believed(
    tmp_path: Path,
) -> None:
    """A handshake that ends after the authority changed counts for nothing."""
    async with standing(tmp_path, external("m", 1)) as stand:
        tls = stand.tls()
        assert (await stand.get(PATH, tls=tls))[0] == 200
        other = Authority(tmp_path / "other").certificate("ca").read_text()
        assert stand.api._tls.renew(authority=other)
        code, status = await stand.get(PATH, tls=tls)
        assert (code, "older than what is trusted now" in status["message"]) == (401, True)


async def test_no_session_is_resumed(tmp_path: Path) -> None:
    """Each connection proves itself anew: what was trusted once is not taken from a ticket."""

    def twice() -> list[bool]:
        reused, session = [], None
        for _ in range(2):
            plain = socket.create_connection(("127.0.0.1", stand.api.port), timeout=10)
            with tls.wrap_socket(
                plain, server_hostname="healer-metrics.healer.svc", session=session
            ) as secure:
                secure.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while secure.recv(4096):
                    pass
                session = secure.session
                reused.append(bool(secure.session_reused))
        return reused

    async with standing(tmp_path) as stand:
        tls = stand.tls()
        assert await asyncio.to_thread(twice) == [False, False]
        # A session of TLS 1.2 could be resumed by its id, so there is none.
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(twice)


async def test_a_certificate_of_another_authority_is_refused_in_the_handshake(
    tmp_path: Path,
) -> None:
    """The right name signed by the wrong authority does not get as far as a request."""
    async with standing(tmp_path, external("m", 1)) as stand:
        stranger = Authority(tmp_path / "stranger")
        stranger.issue("front-proxy", "front-proxy-client")
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await stand.get(PATH, tls=stand.tls("front-proxy", stranger))


async def test_health_is_open(tmp_path: Path) -> None:
    """The three health pages are answered without a certificate, and nothing else is."""
    async with standing(tmp_path) as stand:
        for path in ("/healthz", "/livez", "/readyz", "/readyz?verbose"):
            assert await stand.get(path, user="", tls=stand.tls("")) == (200, "ok")
        for path in ("/apis", "/openapi/v2", "/metrics", "/healthz/x", "/readyzx"):
            assert (await stand.get(path, tls=stand.tls("")))[0] == 401


async def test_names_headers_and_extras_are_those_of_the_configmap(tmp_path: Path) -> None:
    """User, uid, groups and extras are read from the headers that the ConfigMap names."""
    authority = Authority(tmp_path)
    trust = read({
        **told(authority), "requestheader-username-headers": '["X-User", "X-Remote-User"]',
        "requestheader-uid-headers": '["X-Remote-Uid"]',
    })  # fmt: skip
    headers = CIMultiDict([
        ("x-remote-user", "jane"), ("X-Remote-Uid", "42"), ("X-Remote-Group", "a"),
        ("X-Remote-Group", "b"), ("X-Remote-Extra-Scopes%2fx", "1"),
        ("x-remote-extra-scopes%2Fx", "2"), ("X-Other", "no"),
    ])  # fmt: skip
    who = trust.who(CIMultiDictProxy(headers))
    assert who is not None
    assert (who.user, who.uid) == ("jane", "42")
    # The group that Go's servers add to everybody whom an authenticator knows.
    assert who.groups == ("a", "b", "system:authenticated")
    assert who.extra == (("scopes/x", ("1", "2")),)
    headers = CIMultiDict({"X-Remote-User": "system:anonymous"})
    headers.add("X-Remote-Group", "system:unauthenticated")
    nobody = trust.who(CIMultiDictProxy(headers))
    assert nobody is not None
    assert nobody.groups == ("system:unauthenticated",)


def test_a_configmap_that_would_let_users_speak_for_others_is_refused(tmp_path: Path) -> None:
    """No authority, no header, text that is no list, and one authority for all are errors."""
    good = told(Authority(tmp_path))
    pem = good["requestheader-client-ca-file"]
    assert read({**good, "requestheader-allowed-names": "[]"}).names == frozenset()
    for change, words in (
        ({"requestheader-client-ca-file": ""}, "requestheader-client-ca-file"),
        ({"requestheader-username-headers": "[]"}, "username-headers"),
        ({"requestheader-group-headers": "X-Remote-Group"}, "is not JSON"),
        ({"requestheader-allowed-names": "{}"}, "not a list"),
        ({"requestheader-allowed-names": "", "client-ca-file": pem}, "allowed-names"),
    ):
        with pytest.raises(MetricsApiError, match=words):
            read({**good, **change})


async def test_it_listens_before_the_cluster_answers_and_says_what_it_waits_for(
    tmp_path: Path,
) -> None:
    """With the API server away it is alive, not ready, and believes nobody; later all is well."""
    cluster = Cluster(away=True, rights=everything())
    async with standing(tmp_path, external("m", 1), cluster=cluster) as stand:
        assert await stand.get("/healthz", user="", tls=stand.tls("")) == (200, "ok")
        code, text = await stand.get("/readyz", user="", tls=stand.tls(""))
        assert (code, "front proxy: the API server is away" in text) == (503, True)
        assert (await stand.get(PATH, tls=stand.tls("")))[0] == 401
        cluster.data.update(told(stand.authority))
        cluster.away = False
        await stand.api.look()
        assert await stand.get("/readyz", user="", tls=stand.tls("")) == (200, "ok")
        assert (await stand.get(PATH))[0] == 200
        cluster.away = True
        await stand.api.look()
        assert (await stand.get("/readyz", user="", tls=stand.tls("")))[0] == 200


async def test_what_is_no_error_of_ours_is_a_403_or_500(tmp_path: Path) -> None:
    """Who may not is 403 and named; when nobody can say, it is 500 and says why."""
    async with standing(tmp_path, external("m", 1)) as stand:
        code, status = await stand.get(PATH, user="jane")
        assert (code, status["reason"]) == (403, "Forbidden")
        assert 'User "jane" cannot list resource "m" in API group' in status["message"]
        stand.cluster.away = True
        code, status = await stand.get(PATH, user="john")
        assert (code, status["reason"]) == (500, "InternalError")
        assert "the API server is away" in status["message"]


async def test_reviews_say_what_the_reference_server_would(tmp_path: Path) -> None:
    """An external metric is `list` on its name; a custom one `get` on the object's subresource."""
    async with standing(tmp_path, external("m", 1)) as stand:
        for path in (
            PATH, "/apis/custom.metrics.k8s.io/v1beta2/namespaces/shop/pods/*/rps",
            "/apis/custom.metrics.k8s.io/v1beta1/nodes/n1/load",
            "/apis/custom.metrics.k8s.io/v1beta1/namespaces/shop/metrics/queue", "/apis",
        ):  # fmt: skip
            await stand.get(path, user="jane")
        asked = [
            (q.verb, q.path or q.group, q.version, q.namespace, q.resource, q.name, q.subresource)
            for _, q in stand.cluster.asked if q.resource != "*"
        ]  # fmt: skip
        custom = "custom.metrics.k8s.io"
        assert asked == [
            ("list", "external.metrics.k8s.io", "v1beta1", "shop", "m", "", ""),
            ("get", custom, "v1beta2", "shop", "pods", "*", "rps"),
            ("get", custom, "v1beta1", "", "nodes", "n1", "load"),
            ("get", custom, "v1beta1", "shop", "metrics", "queue", ""),
            ("get", "/apis", "", "", "", "", ""),
        ]


async def test_masters_are_not_asked_about(tmp_path: Path) -> None:
    """The aggregator's own probes cost no review, as in Go's servers."""
    async with standing(tmp_path, external("m", 1)) as stand:
        asked = await stand.get(PATH, user="system:kube-aggregator", groups=["system:masters"])
        assert asked[0] == 200
        assert stand.cluster.asked == []
        assert json.loads(json.dumps(asked[1]))["items"]
        assert (await stand.get(PATH, user=HPA))[0] == 200
        assert len(stand.cluster.asked) == 1
