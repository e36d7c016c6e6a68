"""One's own account, invitations and limits of spending through GraphQL."""

import base64
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from accounts.mail.outbox import deliver_mail
from accounts.oidc import OidcVerifier
from accounts.operator import make_user
from accounts.rules.roles import Role
from accounts.rules.totp import code_at
from accounts.views import Principal, PrincipalKind
from kit import clock
from kit.ids import decode_id, encode_id, uuid7
from resolvers.context import RequestContext
from tests.accounts.conftest import Mailbox, token_in
from tests.accounts.test_oidc import issuer  # noqa: F401 - a fixture
from tests.schema.conftest import House
from tests.schema.test_access import CALL

NOBODY = Principal(PrincipalKind.ANONYMOUS)
PASSWORD = "correct horse battery"
ERRORS = "userErrors { code message field }"


async def done(house: House, name: str, principal: Principal, shown: str = "", /, **given: object) -> dict:
    """What a mutation answers, which must be no user error."""
    answer = await asked(house, name, principal, shown, **given)
    assert answer["userErrors"] == [], answer
    return answer


async def asked(house: House, name: str, principal: Principal, shown: str = "", /, **given: object) -> dict:
    input_type = name[0].upper() + name[1:] + "Input"
    head, argument = (f"($input: {input_type}!)", "(input: $input)") if given else ("", "")
    document = f"mutation{head} {{ it: {name}{argument} {{ {shown} {ERRORS} }} }}"
    return (await house.read(document, principal, **({"input": given} if given else {})))["it"]


async def mailed_token(house: House) -> str:
    """The token in the last mail that waits to be sent."""
    box = Mailbox()
    await deliver_mail(house.services.database, house.services.sealer, box, house.services.sender)
    return token_in(box.messages[-1])


async def signed_in(house: House, email: str = "ada@example.com", **more: object) -> tuple[Principal, dict]:
    tokens = await done(house, "signIn", NOBODY, "accessToken refreshToken", email=email, password=PASSWORD, **more)
    return await house.services.principals.resolve(tokens["accessToken"], None), tokens


@pytest.fixture
async def ada(house: House) -> Principal:
    await make_user(house.services.accounts, "ada@example.com", "Ada", PASSWORD)
    return (await signed_in(house))[0]


async def test_sessions_are_listed_ended_one_by_one_and_all_at_once(house: House, ada: Principal) -> None:
    other, _ = await signed_in(house)
    await signed_in(house)
    document = "{ viewer { sessions { id isCurrent address } } }"
    listed = (await house.read(document, ada))["viewer"]["sessions"]
    assert len(listed) == 3
    assert [session["id"] for session in listed if session["isCurrent"]] == [encode_id("ses", ada.session_id)]
    other_id = encode_id("ses", other.session_id)
    assert (await done(house, "revokeSession", ada, "deletedId", sessionId=other_id))["deletedId"] == other_id
    assert len((await house.read(document, ada))["viewer"]["sessions"]) == 2
    assert (await done(house, "signOutEverywhere", ada, "ended", keepThis=True))["ended"] == 1
    assert [session["isCurrent"] for session in (await house.read(document, ada))["viewer"]["sessions"]] == [True]


async def test_a_foreign_session_is_answered_like_one_made_up(house: House, ada: Principal) -> None:
    await make_user(house.services.accounts, "eve@example.com", "Eve", PASSWORD)
    eve, _ = await signed_in(house, "eve@example.com")
    answers = [
        await asked(house, "revokeSession", eve, "deletedId", sessionId=encode_id("ses", key))
        for key in (ada.session_id, uuid7())
    ]
    assert answers[0] == answers[1]
    assert answers[0]["userErrors"][0]["code"] == "NOT_FOUND"
    assert len((await house.read("{ viewer { sessions { id } } }", ada))["viewer"]["sessions"]) == 1


async def test_two_factor_sign_in_is_turned_on_asked_for_and_turned_off(house: House, ada: Principal) -> None:
    uri = (await done(house, "enrolTwoFactor", ada, "uri"))["uri"]
    assert uri.startswith("otpauth://totp/")
    assert (await house.read("{ viewer { twoFactor } }", ada))["viewer"]["twoFactor"] is False
    codes = (await done(house, "confirmTwoFactor", ada, "recoveryCodes", code=code_of(uri)))["recoveryCodes"]
    assert (await house.read("{ viewer { twoFactor } }", ada))["viewer"]["twoFactor"] is True
    refused = await asked(house, "signIn", NOBODY, "accessToken", email="ada@example.com", password=PASSWORD)
    assert refused["accessToken"] is None
    assert refused["userErrors"][0]["field"] == ["code"]
    again, _ = await signed_in(house, code=codes[0])
    await done(house, "turnOffTwoFactor", again, code=codes[1])
    await signed_in(house)


def code_of(uri: str) -> str:
    text = parse_qs(urlsplit(uri).query)["secret"][0]
    return code_at(base64.b32decode(text + "=" * (-len(text) % 8)), int(clock.now().timestamp()) // 30)


async def test_a_password_is_changed_and_set_anew_by_mail(house: House, ada: Principal) -> None:
    wrong = await asked(house, "changePassword", ada, currentPassword="wrong", newPassword="another password")
    assert wrong["userErrors"][0]["field"] == ["currentPassword"]
    await done(house, "changePassword", ada, currentPassword=PASSWORD, newPassword="another password")
    answers = [
        await asked(house, "requestPasswordReset", NOBODY, email=email)
        for email in ("ada@example.com", "nobody@example.com")
    ]
    assert answers[0] == answers[1] == {"userErrors": []}
    token = await mailed_token(house)
    await done(house, "resetPassword", NOBODY, token=token, password=PASSWORD)
    used = await asked(house, "resetPassword", NOBODY, token=token, password=PASSWORD)
    assert used["userErrors"][0]["field"] == ["token"]
    await signed_in(house)


async def test_mails_are_turned_off_and_on_but_for_those_that_must_come(house: House, ada: Principal) -> None:
    shown = "mailPreferences { kind wanted }"
    off = await done(house, "setMailPreference", ada, shown, kind="PRODUCT_NEWS", wanted=False)
    assert {"kind": "PRODUCT_NEWS", "wanted": False} in off["mailPreferences"]
    assert (await house.read(f"{{ viewer {{ {shown} }} }}", ada))["viewer"]["mailPreferences"] == off["mailPreferences"]
    on = await done(house, "setMailPreference", ada, shown, kind="PRODUCT_NEWS", wanted=True)
    assert all(preference["wanted"] for preference in on["mailPreferences"])
    never = await asked(house, "setMailPreference", ada, shown, kind="TRANSACTIONAL", wanted=False)
    assert never["userErrors"][0]["field"] == ["kind"]


async def test_an_invitation_is_sent_again_and_taken_up_without_an_account(house: House) -> None:
    owner = await house.person(Role.OWNER)
    made = await done(
        house, "inviteMember", owner, "invitation { id }", workspaceId=house.workspace_id, email="new@example.com"
    )
    first = await mailed_token(house)
    await done(house, "resendInvitation", owner, "invitation { id }", invitationId=made["invitation"]["id"])
    second = await mailed_token(house)
    given = {"name": "New", "password": PASSWORD}
    ended = await asked(house, "joinWorkspace", NOBODY, "accessToken", token=first, **given)
    assert ended["accessToken"] is None
    joined = await done(house, "joinWorkspace", NOBODY, "accessToken member { role }", token=second, **given)
    assert joined["member"] == {"role": "MEMBER"}
    person = await house.services.principals.resolve(joined["accessToken"], None)
    document = "query($id: ID!) { workspace(id: $id) { viewerRole } }"
    assert (await house.read(document, person, id=house.workspace_id))["workspace"] == {"viewerRole": "MEMBER"}
    await done(house, "leaveWorkspace", person, workspaceId=house.workspace_id)
    assert (await house.read(document, person, id=house.workspace_id))["workspace"] is None


async def test_a_members_month_is_limited_and_the_limit_lifted(house: House) -> None:
    owner, member = await house.person(Role.OWNER), await house.person(Role.MEMBER)
    found = await house.read(
        "query($id: ID!) { workspace(id: $id) { members { nodes { id user { id } } } } }", owner, id=house.workspace_id
    )
    nodes = found["workspace"]["members"]["nodes"]
    member_id = next(node["id"] for node in nodes if decode_id("user", node["user"]["id"]) == member.user_id)
    given = {"workspaceId": house.workspace_id, "memberId": member_id}
    made = await done(house, "setSpendLimit", owner, "spendLimit { subject period limit spent }", **given, limit="0")
    assert made["spendLimit"] == {"subject": "MEMBER", "period": "MONTH", "limit": "0", "spent": "0"}
    call = "mutation($input: ModelCallInput!) { it: callModel(input: $input) { userErrors { code } } }"
    ask = {**CALL, "workspaceId": house.workspace_id}
    refused = await house.read(call, member, input=ask)
    assert [error["code"] for error in refused["it"]["userErrors"]] == ["SPEND_LIMIT_REACHED"]
    listed = await house.read(
        "query($id: ID!) { workspace(id: $id) { spendLimits { subject subjectId limit } } }",
        owner,
        id=house.workspace_id,
    )
    assert listed["workspace"]["spendLimits"] == [{"subject": "MEMBER", "subjectId": member_id, "limit": "0"}]
    lifted = await done(house, "setSpendLimit", owner, "spendLimit { limit }", **given, limit=None)
    assert lifted["spendLimit"] is None
    assert (await house.read(call, member, input=ask))["it"]["userErrors"] == []


async def test_signing_in_with_a_provider_needs_one_that_is_set_up(house: House) -> None:
    answer = await asked(house, "signInWithToken", NOBODY, "accessToken", token="x")
    assert [error["code"] for error in answer["userErrors"]] == ["CONFLICT"]


async def test_signing_in_with_a_provider_gives_a_session(house: House, issuer) -> None:  # noqa: F811 - the fixture
    async with aiohttp.ClientSession() as http:
        services = replace(house.resolver_services, identity=OidcVerifier(issuer.url, "tollgate", http))
        answers = []
        for token in (issuer.token(), issuer.token(aud="another")):
            context = RequestContext(NOBODY, services, "test", "203.0.113.7")
            answers.append(
                await house.schema.execute(
                    "mutation($t: String!) { signInWithToken(input: {token: $t}) { accessToken user { email } } }",
                    variable_values={"t": token},
                    context_value=context,
                )
            )
    assert answers[0].errors is None
    assert answers[0].data["signInWithToken"]["user"] == {"email": "Ada@example.com"}
    person = await house.services.principals.resolve(answers[0].data["signInWithToken"]["accessToken"], None)
    assert person.kind is PrincipalKind.USER
    assert "not valid" in answers[1].errors[0].message
