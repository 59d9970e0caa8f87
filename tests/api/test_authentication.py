"""Who asks: tokens that hold, tokens that do not, and how often anybody may ask."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr

from api.issuer import PAUSE_SECONDS, Issuer
from mesh_core.model.grants import claim, column, grant
from mesh_core.settings import MalformedSetting, Settings
from mesh_core.store.grants import declare
from mesh_core.store.versions import raise_generation
from mesh_core.tokens import development_token
from tests.api.conftest import NO_KAFKA, served
from tests.read.declarations import deploy_by_hand, insert, order, orders
from tests.support.services import Services, fresh_database

SECRET = "a shared secret that is long enough for HS256"
ORDERS = "/v1/views/orders"


@pytest.fixture(scope="module")
def url(services: Services) -> Iterator[str]:
    with fresh_database(services.database_url) as url:
        deploy_by_hand(url)
        insert(url, "orders__1", order(1, customer="ALFKI"), order(2, customer="QUICK"))
        with psycopg.connect(url) as connection:
            own = claim("customer") == column("customer")
            declare(connection, [grant(orders, "sales").model, grant(orders, "customer", where=own).model])
            raise_generation(connection)
        yield url


def settings(url: str, **more: Any) -> Settings:
    return Settings(
        database_url=url, kafka_bootstrap_servers=NO_KAFKA,
        **{"auth_key": SECRET, "catalog": "tests.read.declarations"} | more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[httpx.Client]:
    with served(settings(url)) as client:
        yield client


def told(**claims: Any) -> dict[str, Any]:
    """Claims that hold, but for those given; None: without it."""
    now = int(time.time())
    whole = {"sub": "eve", "iss": "flexmesh", "aud": "flexmesh", "exp": now + 60, "roles": ["sales"]} | claims
    return {name: value for name, value in whole.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: Any = None, **claims: Any) -> str:
    return jwt.encode(told(**claims), key, algorithm, headers)


def status(api: httpx.Client, token: str | None, path: str = ORDERS) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = api.get(path, headers=headers)
    if answer.status_code == 401:
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["type"] == "urn:flexmesh:problem:unauthenticated"
        assert token is None or token not in answer.text
    return answer.status_code


def test_a_token_that_holds(api: httpx.Client) -> None:
    for _ in range(2):
        assert status(api, signed()) == 200
    assert status(api, signed(roles="other sales")) == 200
    assert status(api, signed(aud=["others", "flexmesh"])) == 200
    assert status(api, signed(exp=int(time.time()) - 5)) == 200, "within the leeway"
    assert status(api, signed(exp=10**400)) == 200
    found = api.get(
        ORDERS, headers={"Authorization": f"Bearer {signed(roles=['customer'], customer='QUICK')}"}
    )
    assert [row["order_id"] for row in found.json()] == [2]


def encoded(part: Any) -> str:
    return urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


PRIVATE = rsa.generate_private_key(65537, 2048)
PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
NOW = int(time.time())
NOT_HOLDING: dict[str, Callable[[], str]] = {
    "no signature": lambda: f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(told())}.",
    "another secret": lambda: signed(SECRET + "!"),
    "another algorithm of the family": lambda: signed(SECRET * 2, "HS512"),
    "an asymmetric key": lambda: signed(PRIVATE, "RS256"),
    "no exp": lambda: signed(exp=None),
    "no iss": lambda: signed(iss=None),
    "no aud": lambda: signed(aud=None),
    "no sub": lambda: signed(sub=None),
    "an empty sub": lambda: signed(sub=""),
    "expired beyond the leeway": lambda: signed(exp=NOW - 60),
    "not yet": lambda: signed(nbf=NOW + 3600),
    "of another issuer": lambda: signed(iss="evil"),
    "for another audience": lambda: signed(aud="others"),
    "exp is text": lambda: signed(exp="tomorrow"),
    "too long": lambda: signed(long="x" * 9000),
    "not a token": lambda: "x.y.z",
    "dots": lambda: "..",
    "claims are a list": lambda: jwt.api_jws.encode(b"[1]", SECRET, "HS256"),
    "critical header": lambda: signed(headers={"crit": ["x"], "x": 1}),
}


@pytest.mark.parametrize("why", NOT_HOLDING)
def test_a_token_that_does_not_hold(api: httpx.Client, why: str) -> None:
    assert status(api, NOT_HOLDING[why]()) == 401


def test_what_is_no_token_at_all_is_told_apart(api: httpx.Client) -> None:
    for text in ("x", "x.y.z", "..", signed().rpartition(".")[0], "é.b.c"):
        answer = api.get(ORDERS, headers={"Authorization": f"Bearer {text}".encode()})
        assert answer.status_code == 401
        assert "it is no JWT: " in answer.json()["detail"]
        assert "three parts" in answer.json()["remedy"]
    answer = api.get(ORDERS, headers={"Authorization": f"Bearer {signed(SECRET + '!')}"})
    assert answer.json()["detail"] == "The token is refused: Signature verification failed."


def test_whoever_is_refused_without_a_token_is_told_that_there_was_none(url: str) -> None:
    with served(settings(url, auth_anonymous_role="customer")) as api:
        for path in ("/v1/relations", "/v1/admin/views"):
            without = api.get(path)
            assert without.status_code == 403
            assert without.json()["detail"].endswith(" No token was sent.")
            assert "Authorization: Bearer TOKEN" in without.json()["remedy"]
            given = api.get(path, headers={"Authorization": f"Bearer {signed()}"})
            assert (given.status_code, "No token" in given.text) == (403, False)


def test_what_is_not_one_bearer_token(api: httpx.Client) -> None:
    token = signed()
    for headers in (
        [("Authorization", f"Basic {token}")],
        [("Authorization", token)],
        [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")],
    ):
        assert api.get(ORDERS, headers=headers).status_code == 401
    assert api.get(ORDERS, params={"access_token": token}).status_code == 401
    assert status(api, None) == 401
    for open_path in ("/livez", "/docs", "/metrics"):
        assert status(api, None, open_path) == 200


def test_a_token_without_a_role_sees_nothing(api: httpx.Client) -> None:
    for roles in (None, [], 7, {"sales": True}, ["Sales"], [["sales"]]):
        assert status(api, signed(roles=roles)) == 404
    assert status(api, signed(roles=["admin"]), "/v1/admin/views") in (200, 503)
    assert status(api, signed(), "/v1/admin/views") == 403


def test_without_a_key_no_token_is_believed(url: str) -> None:
    with served(settings(url, auth_key=None, auth_anonymous_role="sales")) as api:
        assert status(api, None) == 200
        assert status(api, signed()) == 401


def test_strangers_learn_whether_but_not_why(url: str) -> None:
    with served(settings(url, catalog="projections.northwind")) as api:
        assert api.get("/readyz").json() == {"status": "not ready", "reasons": []}
        told = api.get("/readyz", headers={"Authorization": f"Bearer {signed(roles=['admin'])}"})
        assert (told.status_code, "order_overview" in told.text) == (503, True)


def test_whoever_asks_too_often_waits(url: str) -> None:
    with served(settings(url, request_rate="3/hour", auth_anonymous_role="sales")) as api:
        for token in (None, signed()):
            assert [status(api, token) for _ in range(4)] == [200, 200, 200, 429]
        assert status(api, signed(sub="mallory")) == 200
        assert [status(api, f"x.y.{number}") for number in range(4)] == [401, 401, 401, 429]
        assert status(api, signed(sub="trudy")) == 200, "others behind the same proxy are not refused"
        answer = api.get(ORDERS)
        assert answer.json()["type"] == "urn:flexmesh:problem:too-many-requests"
        assert 1 <= int(answer.headers["Retry-After"]) <= 3600
        assert status(api, None, "/livez") == 200


# ---- keys of an issuer


BROKEN = b"no status line\r\n\r\n"


class JWKS:
    """An issuer of its own, on a socket: it tells what `document` is, slowly if `delay` or `trickles` say so."""

    def __init__(self) -> None:
        self.document: bytes = b""
        self.delay, self.asked, self.trickles = 0.0, 0, False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                time.sleep(outer.delay)
                if outer.document == BROKEN:
                    self.wfile.write(BROKEN)
                    return
                self.send_response(200)
                self.end_headers()
                if not outer.trickles:
                    self.wfile.write(outer.document)
                with contextlib.suppress(OSError):
                    for number in range(len(outer.document) if outer.trickles else 0):
                        self.wfile.write(outer.document[number : number + 1])
                        time.sleep(0.1)

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"

    def tell(self, **keys: Any) -> None:
        told = []
        for kid, key in keys.items():
            algorithm = (
                jwt.algorithms.RSAAlgorithm
                if isinstance(key, rsa.RSAPrivateKey)
                else jwt.algorithms.ECAlgorithm
            )
            told.append(algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": kid, "use": "sig"})
        self.document = json.dumps({"keys": told}).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[JWKS]:
    made = JWKS()
    yield made
    made.close()


def with_issuer(url: str, issuer: JWKS) -> Settings:
    return settings(
        url, auth_key=None, auth_jwks_url=issuer.url, auth_issuer="flexmesh", auth_audience="flexmesh"
    )


def test_keys_rotate_and_outlive_their_issuer(
    url: str, issuer: JWKS, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = PRIVATE, rsa.generate_private_key(65537, 2048)
    issuer.tell(old=old)
    with served(with_issuer(url, issuer)) as api:
        assert status(api, signed(old, "RS256", {"kid": "old"})) == 200
        assert status(api, signed(old, "RS256")) == 200, "there is only one"
        issuer.tell(old=old, new=new)
        rotated = signed(new, "RS256", {"kid": "new"})
        assert status(api, rotated) == 401, "the issuer was asked just now"
        monkeypatch.setattr("api.issuer.PAUSE_SECONDS", 0.0)
        assert status(api, rotated) == 200
        assert status(api, signed(new, "RS256", {"kid": "old"})) == 401
        assert status(api, signed(old, "RS256", {"kid": "../old"})) == 401
        issuer.close()
        assert status(api, signed(old, "RS256", {"kid": "old"}, sub="another")) == 200
        assert status(api, signed(new, "RS256", {"kid": "third"})) == 401


def test_an_unknown_key_asks_the_issuer_seldom(url: str, issuer: JWKS) -> None:
    issuer.tell(one=PRIVATE)
    with served(with_issuer(url, issuer)) as api:
        for number in range(20):
            assert status(api, signed(PRIVATE, "RS256", {"kid": str(number)})) == 401
    assert issuer.asked == 1
    assert PAUSE_SECONDS >= 5


def test_an_issuer_that_cannot_be_asked(url: str, issuer: JWKS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.issuer.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("api.issuer.TIMEOUT_SECONDS", 0.3)
    token = signed(PRIVATE, "RS256", {"kid": "one"})
    with served(with_issuer(url, issuer)) as api:
        for document in UNUSABLE:
            issuer.document = document
            assert status(api, token) == 503
        issuer.tell(one=ec.generate_private_key(ec.SECP256R1()))
        assert status(api, token) == 503, "a key of another family is none"
        issuer.tell(one=PRIVATE)
        issuer.delay = 1.0
        assert status(api, token) == 503
        issuer.delay = 0.0
        assert status(api, token) == 200


UNUSABLE = [
    b"",
    b"[]",
    b'{"keys": 7}',
    b'{"keys": [7, {}, {"kty": "RSA"}, {"kid": []}]}',
    b"[" * 100_000,
    b"x" * 1_100_000,
    json.dumps(
        {"keys": [jwt.algorithms.RSAAlgorithm.to_jwk(PRIVATE, as_dict=True) | {"kid": "one"}]}
    ).encode(),
]
"""No JWKS, or one whose key is known to everybody."""


def test_known_keys_stay_whatever_the_issuer_answers(
    url: str, issuer: JWKS, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEPT_SECONDS", "PAUSE_SECONDS"):
        monkeypatch.setattr(f"api.issuer.{name}", 0.0)
    monkeypatch.setattr("api.issuer.TIMEOUT_SECONDS", 0.5)
    issuer.tell(one=PRIVATE)
    with served(with_issuer(url, issuer)) as api:

        def known(who: str) -> int:
            return status(api, signed(PRIVATE, "RS256", {"kid": "one"}, sub=who))

        assert known("first") == 200
        for number, document in enumerate((*UNUSABLE, BROKEN)):
            issuer.document = document
            assert [known(f"{number} {turn}") for turn in range(2)] == [200, 200]
        issuer.document, issuer.trickles = b'{"keys": [' + b" " * 1000, True
        began = time.monotonic()
        assert [known(f"trickling {turn}") for turn in range(5)] == [200] * 5
        assert time.monotonic() - began < 4, "who names a known key does not wait"
        assert status(api, signed(PRIVATE, "RS256", {"kid": "other"})) == 401


def test_a_public_key_is_never_a_secret(url: str) -> None:
    with served(settings(url, auth_key=PEM)) as api:
        assert status(api, signed(PRIVATE, "RS256")) == 200
        forged = jwt.api_jws.encode(json.dumps(told()).encode(), SECRET, "HS256")
        assert status(api, forged) == 401
        body = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(told())}"
        mac = jwt.get_algorithm_by_name("HS256").sign(body.encode(), PEM.encode())
        assert status(api, f"{body}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}") == 401


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auth_algorithms": "HS256,RS256"}, "mixes families"),
        ({"auth_algorithms": "none"}, "there is not"),
        ({"auth_algorithms": "RS256"}, "do not go with"),
        ({"auth_key": "short"}, "fewer than 32"),
        ({"auth_key": "-----BEGIN PUBLIC KEY-----\nno key\n-----END PUBLIC KEY-----"}, "cannot verify RS256"),
        ({"auth_key": PEM, "auth_algorithms": "ES256"}, "cannot verify ES256"),
        ({"request_rate": "lots"}, "no rate"),
        ({"request_rate": "0/minute"}, "no rate"),
        ({"auth_anonymous_role": "a b"}, "ANONYMOUS_ROLE"),
    ],
)
def test_settings_that_would_not_be_safe(url: str, given: dict[str, Any], said: str) -> None:
    with pytest.raises(MalformedSetting, match=said), served(settings(url, **given)):
        pass


def test_settings_that_contradict_each_other(url: str) -> None:
    with pytest.raises(MalformedSetting, match="both set"):
        settings(url, auth_jwks_url="https://issuer/jwks")
    with pytest.raises(MalformedSetting, match="MESH_AUTH_ISSUER"):
        settings(url, auth_key=None, auth_jwks_url="https://issuer/jwks")
    with pytest.raises(MalformedSetting, match="MESH_AUTH_JWKS_URL"):
        settings(url, auth_key=None, auth_jwks_url="file:///etc/passwd")


def test_development_tokens_are_believed(url: str) -> None:
    nested = settings(url, auth_roles_claim="realm.roles")
    with served(nested) as api:
        assert status(api, development_token(nested, ["sales"], {"realm": {"x": 1}}, "me", 1)) == 200
    assert SecretStr(SECRET) == nested.auth_key
    assert Issuer("http://x", frozenset({"RS256"}))
