"""Certificates and authorities that change while it serves, and those it makes itself."""

import shutil
import ssl
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from healer.kernel.clock import SystemClock
from healer.testing.clock import FakeClock
from scalers.apiserver import Listening, MetricsApi, MetricsApiError
from scalers.apiserver.certificates import BUNDLE_LIMIT, MADE_DAYS, make, merged
from scalers.apiserver.server import TRUST_SECONDS
from tests.apiserver.stand import Cluster, Shelf, Stand, everything, external, standing, told
from tests.bed.certificates import Authority

PATH = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop/m"
NOW = 1_787_222_897.0


def hands(earlier: float = 0.0) -> FakeClock:
    """A clock that the test moves; it begins so many seconds ago, for the real checks of TLS."""
    return FakeClock(SystemClock().now() - earlier)


async def test_a_rotated_authority_is_followed_and_the_old_one_refused(tmp_path: Path) -> None:
    """After the ConfigMap changes, old front proxies are cut off and new ones get in."""
    clock = hands()
    async with standing(tmp_path, external("m", 1), clock=clock) as stand:
        old = stand.tls()
        assert (await stand.get(PATH, tls=old))[0] == 200
        new = Authority(tmp_path / "new")
        new.issue("front-proxy", "front-proxy-client")
        stand.cluster.data = told(new)
        clock.advance(TRUST_SECONDS)
        await stand.api.look()
        # The kept connection is gone too, so this is a new handshake.
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await stand.get(PATH, tls=old)
        assert (await stand.get(PATH, tls=stand.tls("front-proxy", new)))[0] == 200


async def test_connections_are_kept_while_nothing_changes(tmp_path: Path) -> None:
    """Looks that find the same authority and certificate leave connections alone."""
    clock = hands()
    async with standing(tmp_path, external("m", 1), clock=clock) as stand:
        tls = stand.tls()
        await stand.get(PATH, tls=tls)
        before = stand.connections()
        clock.advance(TRUST_SECONDS)
        await stand.api.look()
        assert (await stand.get(PATH, tls=tls))[0] == 200
        assert stand.connections() == before


async def test_a_rotated_certificate_is_served_from_the_next_handshake(tmp_path: Path) -> None:
    """Replaced files are served without a restart; half a replacement changes nothing."""
    async with standing(tmp_path, external("m", 1)) as stand:
        assert (await stand.get(PATH))[0] == 200
        again = Authority(tmp_path / "again")
        again.issue("server", "metrics", names=("healer-metrics.healer.svc",))
        shutil.copyfile(again.certificate("server"), stand.serving.certificate("server"))
        await stand.api.look()
        assert (await stand.get(PATH, tls=stand.tls()))[0] == 200
        shutil.copyfile(again.key("server"), stand.serving.key("server"))
        await stand.api.look()
        with pytest.raises(aiohttp.ClientError):
            await stand.get(PATH, tls=stand.tls())
        trusting = stand.tls()
        trusting.load_verify_locations(again.certificate("ca"))
        assert (await stand.get(PATH, tls=trusting))[0] == 200


async def test_a_made_certificate_is_told_to_each_apiservice(tmp_path: Path) -> None:
    """Without files it makes a certificate for its Service and adds its authority everywhere."""
    async with standing(tmp_path, external("m", 1), self_made=True) as stand:
        assert set(stand.cluster.bundles) == set(Listening().api_services)
        for bundle in stand.cluster.bundles.values():
            assert (await stand.get(PATH, tls=by(stand, bundle)))[0] == 200
        assert stand.api.problems() == []


async def test_it_is_not_ready_until_the_aggregator_trusts_it(tmp_path: Path) -> None:
    """A made certificate that could not be told is a reason in /readyz, until it could."""
    cluster = Cluster(away=True, rights=everything())
    async with standing(tmp_path, cluster=cluster, self_made=True) as stand:
        cluster.data.update(told(stand.authority))
        assert "APIServices: the API server is away" in stand.api.problems()
        cluster.away = False
        await stand.api.look()
        assert stand.api.problems() == []


async def test_a_made_certificate_is_replaced_in_time_and_told_before_it_is_shown(
    tmp_path: Path,
) -> None:
    """At two thirds of its time a new one is told first and served from the next look on."""
    life = MADE_DAYS * 86400
    clock = hands(earlier=life * 0.67)
    async with standing(tmp_path, external("m", 1), clock=clock, self_made=True) as stand:
        first = stand.cluster.bundles[Listening().api_services[0]]
        clock.advance(life * 0.67)
        await stand.api.look()
        both = stand.cluster.bundles[Listening().api_services[0]]
        assert first in both
        assert both != first
        assert (await stand.get(PATH, tls=by(stand, first)))[0] == 200
        await stand.api.look()
        with pytest.raises(aiohttp.ClientError):
            await stand.get(PATH, tls=by(stand, first))
        assert (await stand.get(PATH, tls=by(stand, both)))[0] == 200


def test_a_bundle_keeps_what_others_put_there(tmp_path: Path) -> None:
    """Authorities of other replicas and of people stay; made ones that ended or are many go."""
    ours = Authority(tmp_path).certificate("ca").read_bytes()
    listening = Listening()
    ended = make(listening, NOW - 2 * MADE_DAYS * 86400).authority
    other = make(listening, NOW - 86400).authority
    own = make(listening, NOW).authority
    bundle = merged(ours + ended + other, own, NOW)
    assert x509.load_pem_x509_certificates(bundle) == x509.load_pem_x509_certificates(
        ours + other + own
    )
    assert merged(bundle, own, NOW) == bundle
    for day in range(40):
        bundle = merged(bundle, make(listening, NOW + day).authority, NOW + day)
    found = x509.load_pem_x509_certificates(bundle)
    assert len(found) == BUNDLE_LIMIT + 1
    assert found[0] == x509.load_pem_x509_certificate(ours)
    with pytest.raises(MetricsApiError, match="is not PEM"):
        merged(b"rubbish", own, NOW)


async def test_files_that_do_not_belong_together_are_refused_at_the_start(tmp_path: Path) -> None:
    """A pair that is none, is missing, or is half given is an error that names the files."""
    authority = Authority(tmp_path)
    authority.issue("a", "a")
    authority.issue("b", "b")
    cluster = Cluster()
    for cert, key, words in (
        (authority.certificate("a"), authority.key("b"), "belong together"),
        (authority.certificate("a"), tmp_path / "none", "none"),
        (authority.certificate("a"), None, "give both"),
    ):
        with pytest.raises(MetricsApiError, match=words):
            await MetricsApi.start(
                Listening("127.0.0.1", 0, cert_file=cert, key_file=key), Shelf(), SystemClock(),
                authentication=cluster, reviewer=cluster,
            )  # fmt: skip


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """Binding where somebody listens already is an error that names the address."""
    async with standing(tmp_path) as stand:
        with pytest.raises(MetricsApiError, match=f"cannot bind 127.0.0.1:{stand.api.port}"):
            async with standing(tmp_path / "second", port=stand.api.port):
                pass


async def test_at_its_end_it_is_not_ready_and_still_answers(tmp_path: Path) -> None:
    """While it drains, readiness says so and metrics are still served."""
    async with standing(tmp_path, external("m", 1)) as stand:
        stand.api.drain()
        code, text = await stand.get("/readyz")
        assert (code, "shutting down" in text) == (503, True)
        assert (await stand.get(PATH))[0] == 200


def by(stand: Stand, bundle: bytes) -> ssl.SSLContext:
    """The aggregator's context, with this caBundle."""
    context = ssl.create_default_context(cadata=bundle.decode())
    pair = stand.authority.certificate("front-proxy"), stand.authority.key("front-proxy")
    context.load_cert_chain(*pair)
    return context
