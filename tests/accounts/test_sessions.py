"""Sessions: rotation, reuse, revocation, two factors, and tokens that are not ours."""

import asyncio
import base64
import json
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from accounts import two_factor
from accounts.access_tokens import AccessTokens
from accounts.errors import NotFoundHere, TwoFactorRefused, TwoFactorRequired, TwoFactorState
from accounts.rules.totp import code_at, step_at
from accounts.sessions import refresh, sessions_of_user, sign_out, sign_out_everywhere
from accounts.sign_in import sign_in
from kit import clock
from kit.errors import Unauthenticated
from kit.sealing import Sealer
from tests.accounts.conftest import PASSWORD, SECRET, VISITOR, acting, later


async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_session(room):
    first = await room.person("ada@example.com")
    second = await refresh(room.accounts, VISITOR, first.refresh_token)
    await room.principals.resolve(second.access_token)
    with pytest.raises(Unauthenticated):
        await refresh(room.accounts, VISITOR, first.refresh_token)
    with pytest.raises(Unauthenticated):
        await refresh(room.accounts, VISITOR, second.refresh_token)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(second.access_token)
    assert "session" in (await room.mails())[-1]["Subject"]
    assert await room.pg.fetchval("SELECT count(*) FROM audit_events WHERE action = 'session.reuse_detected'") == 1


async def test_of_two_refreshes_at_once_one_wins_and_the_session_ends(room):
    tokens = await room.person("ada@example.com")
    await room.warm()
    answers = await asyncio.gather(
        *(refresh(room.accounts, VISITOR, tokens.refresh_token) for _ in range(5)), return_exceptions=True
    )
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 4
    assert await room.pg.fetchval("SELECT revoked_reason FROM sessions") == "REFRESH_TOKEN_REUSED"


@pytest.mark.parametrize("token", ["", "tgr_", "tgr_" + "x" * 43, "x" * 100_000, "\ud800", "tgr_\ud800"])
async def test_refresh_tokens_that_are_none_are_refused(room, token):
    with pytest.raises(Unauthenticated):
        await refresh(room.accounts, VISITOR, token)


async def test_sessions_end_by_themselves_however_often_refreshed(room, time):
    tokens = await room.person("ada@example.com")
    later(time, days=29)
    tokens = await refresh(room.accounts, VISITOR, tokens.refresh_token)
    later(time, days=1, seconds=1)
    with pytest.raises(Unauthenticated):
        await refresh(room.accounts, VISITOR, tokens.refresh_token)


async def test_access_tokens_last_a_quarter_of_an_hour_also_in_the_cache(room, time):
    tokens = await room.person("ada@example.com")
    await room.principals.resolve(tokens.access_token)
    later(time, minutes=14, seconds=59)
    await room.principals.resolve(tokens.access_token)
    later(time, seconds=2)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(tokens.access_token)


async def test_signing_out_ends_this_session_only_and_everywhere_ends_all(room):
    here = await room.person("ada@example.com")
    there = await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    other = await room.person("bob@example.com")
    for tokens in (here, there, other):
        await room.principals.resolve(tokens.access_token)
    assert len(await sessions_of_user(room.accounts, here.user.id)) == 2
    with pytest.raises(NotFoundHere):
        await sign_out(room.accounts, acting(other), other.user.id, here.session_id)
    await sign_out(room.accounts, acting(here), here.user.id, here.session_id)
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(here.access_token)
    await room.principals.resolve(there.access_token)
    assert await sign_out_everywhere(room.accounts, acting(there), there.user.id) == 1
    with pytest.raises(Unauthenticated):
        await room.principals.resolve(there.access_token)
    await room.principals.resolve(other.access_token)


def _part(value: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_tokens_of_another_algorithm_signer_shape_or_audience_are_refused(room):
    tokens = await room.person("ada@example.com")
    head, body, signature = tokens.access_token.split(".")
    claims = jwt.decode(tokens.access_token, options={"verify_signature": False})
    key = Sealer({1: SECRET}, 1).derive("access-token")
    header = {"typ": "at+jwt", "kid": "1"}

    def signed(changes=(), *, by=key, algorithm="HS256", head=header):
        return jwt.encode({**claims, **dict(changes)}, by, algorithm=algorithm, headers=head)

    assert await room.principals.resolve(signed())
    without_session = jwt.encode({k: v for k, v in claims.items() if k != "sid"}, key, headers=header)
    bad = [
        f"{_part({'alg': 'none', 'typ': 'at+jwt', 'kid': '1'})}.{body}.",
        f"{_part({'alg': 'NONE', 'typ': 'at+jwt', 'kid': '1'})}.{body}.{signature}",
        f"{head}.{_part({**claims, 'sub': 'f' * 32})}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        "..",
        "a.b.c",
        signed(algorithm="HS512"),
        signed(by=b"x" * 32),
        signed(head={"typ": "JWT", "kid": "1"}),
        signed(head={"typ": "at+jwt"}),
        signed(head={"typ": "at+jwt", "kid": "2"}),
        signed(head={"typ": "at+jwt", "kid": "../../1"}),
        signed({"aud": "elsewhere"}),
        signed({"iss": "elsewhere"}),
        signed({"exp": 1}),
        signed({"exp": 10**30}),
        signed({"iat": claims["iat"] + 3600}),
        signed({"sid": "f" * 32}),
        signed({"sub": "f" * 32}),
        without_session,
        "x" * 5_000,
        "\ud800",
        "",
    ]
    for token in bad:
        with pytest.raises(Unauthenticated):
            await room.principals.resolve(token)


async def test_tokens_of_the_last_key_stay_good_while_it_is_configured(room):
    tokens = await room.person("ada@example.com")
    rotated = Sealer({2: b"n" * 32, 1: SECRET}, 2)
    assert AccessTokens(rotated).read(tokens.access_token, clock.now()).user_id == tokens.user.id
    with pytest.raises(Unauthenticated):
        AccessTokens(Sealer({2: b"n" * 32}, 2)).read(tokens.access_token, clock.now())


async def _enrolled(room, time) -> tuple:
    tokens = await room.person("ada@example.com")
    enrolment = await two_factor.enrol(room.accounts, acting(tokens), tokens.user.id)
    secret = base64.b32decode(parse_qs(urlsplit(enrolment.uri).query)["secret"][0])
    with pytest.raises(TwoFactorRefused):
        await two_factor.confirm(room.accounts, acting(tokens), tokens.user.id, "000000")
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    codes = await two_factor.confirm(room.accounts, acting(tokens), tokens.user.id, code_at(secret, step_at(time.at)))
    return tokens, secret, codes


async def test_two_factor_sign_in_wants_a_fresh_code_of_the_app(room, time):
    tokens, secret, _ = await _enrolled(room, time)

    async def attempt(code):
        return await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD, code)

    with pytest.raises(TwoFactorRequired):
        await attempt(None)
    with pytest.raises(TwoFactorRefused):
        await attempt(code_at(secret, step_at(time.at)))  # the code that confirmed it
    later(time, seconds=30)
    code = code_at(secret, step_at(time.at))
    assert (await attempt(code)).user.two_factor
    with pytest.raises(TwoFactorRefused):
        await attempt(code)
    for wrong in ("000000", "", "x" * 100_000, "\ud800", "１２３４５６"):
        with pytest.raises((TwoFactorRefused, TwoFactorRequired)):
            await attempt(wrong)
    later(time, seconds=30)
    answers = await asyncio.gather(
        *(attempt(code_at(secret, step_at(time.at))) for _ in range(3)), return_exceptions=True
    )
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    with pytest.raises(TwoFactorState):
        await two_factor.enrol(room.accounts, acting(tokens), tokens.user.id)


async def test_each_recovery_code_is_good_once_and_for_its_owner(room, time):
    tokens, _, codes = await _enrolled(room, time)
    assert len(set(codes)) == 10
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD, codes[0].replace("-", " "))
    with pytest.raises(TwoFactorRefused):
        await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD, codes[0])
    await two_factor.turn_off(room.accounts, acting(tokens), tokens.user.id, codes[1])
    await sign_in(room.accounts, VISITOR, "ada@example.com", PASSWORD)
    with pytest.raises(TwoFactorState):
        await two_factor.turn_off(room.accounts, acting(tokens), tokens.user.id, codes[2])
    sealed = await room.pg.fetchval("SELECT totp_secret_encrypted FROM users")
    assert sealed is None
