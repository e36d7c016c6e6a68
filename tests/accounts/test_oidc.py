"""Identity tokens of an issuer: a real HTTP server with keys that rotate."""

import asyncio
import json
import time as real_time

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from accounts import oidc
from accounts.errors import IdentityRefused
from accounts.oidc import OidcVerifier
from accounts.sign_in import sign_in_with_token
from accounts.users import sign_up
from kit import clock
from kit.errors import Unauthenticated, Unavailable
from tests.accounts.conftest import PASSWORD, VISITOR

RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS = {"rsa": (jwt.algorithms.RSAAlgorithm, RSA, "RS256"), "ec": (jwt.algorithms.ECAlgorithm, EC, "ES256")}


def jwk(key, kid, algorithm):
    made = json.loads(algorithm.to_jwk(key.public_key()))
    return {**{name: value for name, value in made.items() if name != "key_ops"}, "kid": kid, "use": "sig"}


class Issuer:
    def __init__(self):
        self.keys = [
            jwk(RSA, "rsa", jwt.algorithms.RSAAlgorithm),
            jwk(EC, "ec", jwt.algorithms.ECAlgorithm),
            jwk(ED, "ed", jwt.algorithms.OKPAlgorithm),
            {"kty": "oct", "kid": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
        ]
        self.fetches = 0
        self.broken = False
        self.named = None

    async def discovery(self, request):
        if self.broken:
            raise web.HTTPInternalServerError
        return web.json_response({"issuer": self.named or self.url, "jwks_uri": f"{self.url}/keys"})

    async def key_set(self, request):
        self.fetches += 1
        return web.json_response({"keys": self.keys})

    def token(self, key=RSA, algorithm="RS256", kid="rsa", **changes):
        at = int(clock.now().timestamp())
        claims = {
            "iss": self.url,
            "aud": "tollgate",
            "sub": "subject-1",
            "iat": at,
            "exp": at + 300,
            "email": "Ada@example.com",
            "email_verified": True,
            "name": "Ada",
            **changes,
        }
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None}, key, algorithm, {"kid": kid}
        )


@pytest.fixture
async def issuer():
    made = Issuer()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.discovery)
    app.router.add_get("/keys", made.key_set)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def verifier(issuer):
    async with aiohttp.ClientSession() as http:
        yield OidcVerifier(issuer.url, "tollgate", http)


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")])
async def test_tokens_of_the_allowed_algorithms_are_read(issuer, verifier, key, algorithm, kid):
    identity = await verifier.verify(issuer.token(key, algorithm, kid))
    assert (identity.issuer, identity.subject, identity.email) == (issuer.url, "subject-1", "Ada@example.com")
    assert identity.email_verified


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_tokens_that_are_not_good_are_refused(issuer, verifier):
    at = int(clock.now().timestamp())
    public = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, _ = issuer.token().split(".")
    bad = [
        jwt.encode(
            {"iss": issuer.url, "aud": "tollgate", "sub": "x", "iat": at, "exp": at + 9}, None, "none", {"kid": "rsa"}
        ),
        f"{head}.{body}.",
        issuer.token("secret-secret-secret-secret-secret", "HS256", "oct"),
        _signed_by_public_key(issuer, public),
        issuer.token(RSA, "RS512"),
        issuer.token(OTHER_RSA),
        issuer.token(EC, "ES256", "rsa"),
        issuer.token(kid="unknown"),
        issuer.token(kid="broken"),
        issuer.token(iss="https://elsewhere.test"),
        issuer.token(aud="another client"),
        issuer.token(aud=["tollgate", "another client"]),
        issuer.token(azp="another client"),
        issuer.token(exp=at - 61),
        issuer.token(exp=None),
        issuer.token(iat=at + 3600),
        issuer.token(iat=at - 2 * 86_400, exp=at + 10),
        issuer.token(nbf=at + 3600),
        issuer.token(exp="soon"),
        issuer.token(exp=float("nan")),
        issuer.token(nbf="x"),
        issuer.token(sub=None),
        issuer.token(sub=""),
        issuer.token(sub="a\x00b"),
        issuer.token(sub="x" * 300),
        "",
        "a.b.c",
        "x" * 20_000,
        "\ud800",
    ]
    for number, token in enumerate(bad):
        answer = await asyncio.gather(verifier.verify(token), return_exceptions=True)
        assert isinstance(answer[0], Unauthenticated), number
    await verifier.verify(issuer.token(aud=["tollgate", "another client"], azp="tollgate"))
    await verifier.verify(issuer.token(exp=at - 30, nbf=at + 30))


def _signed_by_public_key(issuer, public):
    """The old trick: HMAC under the public key's text."""
    import base64
    import hmac

    _, body, _ = issuer.token().split(".")
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"rsa","typ":"JWT"}').decode().rstrip("=")
    mac = hmac.digest(public, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


async def test_keys_are_fetched_once_and_again_for_a_new_key_but_not_for_every_invented_one(
    issuer, verifier, monkeypatch
):
    for _ in range(3):
        await verifier.verify(issuer.token())
    assert issuer.fetches == 1
    issuer.keys.append(jwk(OTHER_RSA, "new", jwt.algorithms.RSAAlgorithm))
    present = real_time.monotonic()
    monkeypatch.setattr(oidc, "monotonic", lambda: present + 31)
    await verifier.verify(issuer.token(OTHER_RSA, kid="new"))
    assert issuer.fetches == 2
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await verifier.verify(issuer.token(kid=f"invented-{number}"))
    assert issuer.fetches == 2


async def test_a_withdrawn_key_ends_and_an_issuer_away_is_waited_for(issuer, verifier, monkeypatch):
    await verifier.verify(issuer.token())
    present = real_time.monotonic()
    issuer.broken = True
    monkeypatch.setattr(oidc, "monotonic", lambda: present + 4_000)
    await verifier.verify(issuer.token())
    issuer.broken, issuer.keys = False, issuer.keys[1:]
    monkeypatch.setattr(oidc, "monotonic", lambda: present + 8_000)
    with pytest.raises(Unauthenticated):
        await verifier.verify(issuer.token())
    issuer.broken = True
    monkeypatch.setattr(oidc, "monotonic", lambda: present + 200_000)
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token(EC, "ES256", "ec"))


async def test_a_discovery_document_of_another_issuer_is_not_believed(issuer, verifier):
    issuer.named = "https://elsewhere.test"
    with pytest.raises(Unavailable):
        await verifier.verify(issuer.token())


async def test_the_first_token_makes_the_person_and_later_ones_find_them_by_subject(room, issuer, verifier):
    first = await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token())
    assert (first.user.email, first.user.name) == ("Ada@example.com", "Ada")
    assert (await room.workspace_of(first.user.id)).name == "Ada"
    again = await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token(email="new@example.com"))
    assert again.user.id == first.user.id
    await room.principals.resolve(again.access_token)


async def test_a_verified_address_links_an_account_that_exists(room, issuer, verifier):
    person = await room.person("ada@example.com")
    linked = await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token())
    assert linked.user.id == person.user.id


async def test_an_unverified_address_or_another_subject_links_nothing(room, issuer, verifier):
    await room.person("ada@example.com")
    for changes in (
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
        {"email": "no address"},
        {"email": 5},
    ):
        with pytest.raises(IdentityRefused):
            await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token(**changes))
    await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token())
    with pytest.raises(IdentityRefused):
        await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token(sub="subject-2"))


async def test_a_sign_up_that_waited_gives_a_stranger_no_password_into_the_linked_account(room, issuer, verifier):
    await sign_up(room.accounts, VISITOR, "ada@example.com", PASSWORD, "Eve")
    linked = await sign_in_with_token(room.accounts, verifier, VISITOR, issuer.token())
    digest = await room.pg.fetchval("SELECT password_digest FROM users WHERE id = $1", linked.user.id)
    assert digest is None
    assert await room.pg.fetchval("SELECT count(*) FROM user_tokens WHERE used_at IS NULL") == 0
