"""Every field is called as everybody, and the answer is what the access table says: no more, and no hint of more."""

import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
import strawberry

from accounts.invalidation import Change, ChangeKind
from accounts.rules.roles import ROLES, SCOPES, Action, ApiScope, Role
from accounts.views import ANONYMOUS, Principal, PrincipalKind
from kit.ids import encode_id, uuid7
from resolvers.access_table import FIELDS, NODES, Reach, Rule, as_markdown
from schema.__main__ import ACCESS
from schema.errors import request_failure_of
from tests.schema.conftest import House

Target = Callable[[House], Awaitable[str]]
OWN_WORKSPACE = object()
"""Stands for the house's workspace, where the id that is asked about is of something in it."""

CALL = {
    "model": "sandbox-chat",
    "payload": {"chat": {"messages": [{"role": "USER", "content": "a"}], "maxOutputTokens": 1}},
}
JOB = {"model": "sandbox-video", "payload": {"video": {"prompt": "a", "seconds": 1}}}


async def _workspace(house: House) -> str:
    return house.workspace_id


async def _new_workspace(house: House) -> str:
    """Another workspace with the same people, for what does not survive the question."""
    pool = house.services.database.pool
    workspace_id = uuid7()
    await pool.execute(
        "INSERT INTO workspaces (id, name, slug, created_at, updated_at) VALUES ($1, 'w', $2, now(), now())",
        workspace_id,
        workspace_id.hex,
    )
    await pool.execute(
        "INSERT INTO wallets (id, workspace_id, created_at) VALUES ($1, $2, now())", uuid7(), workspace_id
    )
    for role, person in house.people.items():
        await _insert_member(house, workspace_id, person.user_id, role)
    return encode_id("ws", workspace_id)


async def _insert_member(house: House, workspace_id: UUID, user_id: UUID | None, role: Role) -> UUID:
    member_id = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO members (id, workspace_id, user_id, role, joined_at) VALUES ($1, $2, $3, $4, now())",
        member_id,
        workspace_id,
        user_id,
        role,
    )
    return member_id


async def _member(house: House) -> str:
    principal = await house.person(None)
    return encode_id("mem", await _insert_member(house, house.seeded.workspace_id, principal.user_id, Role.MEMBER))


async def _invitation(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO invitations (id, workspace_id, email, email_key, role, digest, created_at, expires_at)"
        " VALUES ($1, $2, $3, $3, 'MEMBER', $4, now(), now() + interval '1 day')",
        key,
        house.seeded.workspace_id,
        f"{key.hex}@example.com",
        key.bytes,
    )
    return encode_id("inv", key)


async def _api_key(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO api_keys (id, workspace_id, name, environment, prefix, digest, scopes, created_at)"
        " VALUES ($1, $2, 'another', 'live', 'tg_live_aaaa', $3, $4, now())",
        key,
        house.seeded.workspace_id,
        key.bytes,
        ["CALLS_WRITE"],
    )
    return encode_id("key", key)


async def _wallet(house: House) -> str:
    return house.wallet_id


async def _grant(house: House) -> str:
    return encode_id("grant", await house.services.database.pool.fetchval("SELECT id FROM credit_grants LIMIT 1"))


async def _entry(house: House) -> str:
    return encode_id("entry", await house.services.database.pool.fetchval("SELECT id FROM ledger_entries LIMIT 1"))


async def _hook(house: House) -> str:
    made = await house.services.resolver_services.webhooks.create(
        house.seeded.workspace_id, "https://1.1.1.1/", ["balance.low"], ""
    )
    await house.services.database.pool.execute(
        "UPDATE webhook_endpoints SET deleted_at = now() WHERE id <> $1", made.endpoint.id
    )
    return encode_id("hook", made.endpoint.id)


async def _delivery(house: House) -> str:
    await _hook(house)
    endpoints = house.services.resolver_services.webhooks
    (endpoint,) = await endpoints.of_workspace(house.seeded.workspace_id)
    return encode_id("delivery", (await endpoints.send_test(endpoint.id)).id)


async def _call(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO calls (id, workspace_id, model_slug, status, request_id, created_at, completed_at)"
        " VALUES ($1, $2, 'sandbox-chat', 'SUCCEEDED', 'r', now(), now())",
        key,
        house.seeded.workspace_id,
    )
    return encode_id("call", key)


async def _method(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO payment_methods (id, workspace_id, stripe_payment_method_id, kind, created_at)"
        " VALUES ($1, $2, $3, 'card', now())",
        key,
        house.seeded.workspace_id,
        f"pm_{key.hex}",
    )
    return encode_id("pm", key)


async def _invoice(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO invoices (id, workspace_id, stripe_invoice_id, status, total_usd_micro, created_at, updated_at)"
        " VALUES ($1, $2, $3, 'paid', 1, now(), now())",
        key,
        house.seeded.workspace_id,
        f"in_{key.hex}",
    )
    return encode_id("bill", key)


async def _transfer(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO transfers (id, workspace_id, amount_micro, amount_usd_micro, status, grant_ids,"
        " grant_amounts_micro, requested_at, updated_at) VALUES ($1, $2, 1, 1, 'REQUESTED', '{}', '{}', now(), now())",
        key,
        house.seeded.workspace_id,
    )
    return encode_id("xfer", key)


async def _asset(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO assets (id, workspace_id, content_type, size_bytes, storage_path, created_at)"
        " VALUES ($1, $2, 'image/png', 1, $3, now())",
        key,
        house.seeded.workspace_id,
        key.hex,
    )
    return encode_id("asset", key)


async def _subscription(house: House) -> str:
    pool = house.services.database.pool
    plan_id, price_id, key = house.services.catalog.current.default_plan.id, uuid7(), uuid7()
    await pool.execute(
        "INSERT INTO prices (id, plan_id, code, amount_usd_micro, period, created_at)"
        " VALUES ($1, $2, $3, 0, 'FREE', now())",
        price_id,
        plan_id,
        key.hex,
    )
    await pool.execute(
        "INSERT INTO subscriptions (id, workspace_id, plan_id, price_id, status, anchor_at, current_period_start,"
        " ended_at, created_at, updated_at) VALUES ($1, $2, $3, $4, 'CANCELED', now(), now(), now(), now(), now())",
        key,
        house.seeded.workspace_id,
        plan_id,
        price_id,
    )
    return encode_id("sub", key)


async def _payment(house: House) -> str:
    key = uuid7()
    await house.services.database.pool.execute(
        "INSERT INTO payments (id, workspace_id, purpose, amount_usd_micro, status, created_at, updated_at)"
        " VALUES ($1, $2, 'TOP_UP', 10000000, 'FAILED', now(), now())",
        key,
        house.seeded.workspace_id,
    )
    return encode_id("pay", key)


async def _published(house: House) -> str:
    key = uuid7()
    pool = house.services.database.pool
    await pool.execute(
        "INSERT INTO models (id, slug, name, modality, routes, created_at, updated_at, workspace_id)"
        " VALUES ($1, $2, 'm', 'TEXT', '[]', now(), now(), $3)",
        key,
        f"w/{key.hex}",
        house.seeded.workspace_id,
    )
    await pool.execute(
        "INSERT INTO published_models (model_id, workspace_id, visibility, base_url, upstream_model, created_at, updated_at)"
        " VALUES ($1, $2, 'PUBLIC', 'https://1.1.1.1/v1', 'm', now(), now())",
        key,
        house.seeded.workspace_id,
    )
    return encode_id("pub", key)


@dataclass(frozen=True)
class Question:
    """How a field is asked about an id, in `argument` of its input or as `$id`."""

    target: Target
    document: str
    more: dict
    argument: str | None = None

    def variables(self, house: House, id_text: str) -> dict:
        if self.argument is None:
            return {"id": id_text}
        more = {name: house.workspace_id if value is OWN_WORKSPACE else value for name, value in self.more.items()}
        return {"input": {self.argument: id_text, **more}}


def _mutation(name: str, target: Target, argument: str, shown: str, /, **more: object) -> tuple[str, Question]:
    input_type = name[0].upper() + name[1:] + "Input" if name not in {"callModel", "startCall"} else "ModelCallInput"
    document = (
        f"mutation($input: {input_type}!) {{ {name}(input: $input) {{ {shown} userErrors {{ code message field }} }} }}"
    )
    return f"Mutation.{name}", Question(target, document, more, argument)


QUESTIONS = dict(
    [
        ("Query.workspace", Question(_workspace, "query($id: ID!) { workspace(id: $id) { id } }", {})),
        (
            "Query.models(availableTo:)",
            Question(_workspace, "query($id: ID!) { models(availableTo: $id) { nodes { id } } }", {}),
        ),
        (
            "Query.estimateCall",
            Question(
                _workspace,
                "query($input: ModelCallInput!) { estimateCall(input: $input) { affordable } }",
                CALL,
                "workspaceId",
            ),
        ),
        (
            "Subscription.streamModel",
            Question(
                _workspace,
                "subscription($input: ModelCallInput!) { streamModel(input: $input) { __typename } }",
                CALL,
                "workspaceId",
            ),
        ),
        (
            "Subscription.walletChanged",
            Question(_workspace, "subscription($id: ID!) { walletChanged(workspaceId: $id) { id } }", {}),
        ),
        (
            "Subscription.callUpdated",
            Question(_call, "subscription($id: ID!) { callUpdated(id: $id) { id status } }", {}),
        ),
        _mutation("updateWorkspace", _workspace, "workspaceId", "workspace { id }", name="new"),
        _mutation("deleteWorkspace", _new_workspace, "workspaceId", "deletedId"),
        _mutation("inviteMember", _workspace, "workspaceId", "invitation { id }", email="not an address"),
        _mutation("revokeInvitation", _invitation, "invitationId", "deletedId"),
        _mutation("resendInvitation", _invitation, "invitationId", "invitation { id }"),
        _mutation("leaveWorkspace", _new_workspace, "workspaceId", ""),
        _mutation("setSpendLimit", _workspace, "workspaceId", "spendLimit { limit }", limit="1000000"),
        _mutation("updateMember", _member, "memberId", "member { role }", role="MEMBER"),
        _mutation("removeMember", _member, "memberId", "deletedId"),
        _mutation("createApiKey", _workspace, "workspaceId", "apiKey { id }", name="k", scopes=[]),
        _mutation("updateApiKey", _api_key, "apiKeyId", "apiKey { id }", name="k"),
        _mutation("rotateApiKey", _api_key, "apiKeyId", "apiKey { id }"),
        _mutation("revokeApiKey", _api_key, "apiKeyId", "apiKey { id }"),
        _mutation("createWebhookEndpoint", _workspace, "workspaceId", "secret", url="nonsense", events=["BALANCE_LOW"]),
        _mutation("updateWebhookEndpoint", _hook, "webhookEndpointId", "webhookEndpoint { id }"),
        _mutation("deleteWebhookEndpoint", _hook, "webhookEndpointId", "deletedId"),
        _mutation("rotateWebhookSecret", _hook, "webhookEndpointId", "webhookEndpoint { url }"),
        _mutation("sendTestWebhook", _hook, "webhookEndpointId", "webhookDelivery { attempts }"),
        _mutation("replayWebhookDelivery", _delivery, "webhookDeliveryId", "webhookDelivery { attempts }"),
        _mutation("updateAlertSettings", _workspace, "workspaceId", "alertSettings { byMail }", byMail=True),
        _mutation("subscribe", _workspace, "workspaceId", "checkoutUrl", priceId="nothing", idempotencyKey=""),
        _mutation("changePlan", _workspace, "workspaceId", "checkoutUrl", priceId="nothing", idempotencyKey=""),
        _mutation("cancelSubscription", _workspace, "workspaceId", "checkoutUrl", idempotencyKey="k"),
        _mutation("resumeSubscription", _workspace, "workspaceId", "checkoutUrl", idempotencyKey="k"),
        _mutation("redeemPromoCode", _workspace, "workspaceId", "bonusPercent", code="x", idempotencyKey="k"),
        _mutation("addCredits", _workspace, "workspaceId", "actionUrl", amount="10", idempotencyKey="k"),
        _mutation("buyCreditPack", _workspace, "workspaceId", "actionUrl", packCode="x", idempotencyKey=""),
        _mutation("updateAutoRecharge", _workspace, "workspaceId", "wallet { id }", enabled=False),
        _mutation("createPaymentMethodSetup", _workspace, "workspaceId", "url", returnUrl="https://app.example/"),
        _mutation(
            "setDefaultPaymentMethod", _method, "paymentMethodId", "paymentMethod { id }", workspaceId=OWN_WORKSPACE
        ),
        _mutation("removePaymentMethod", _method, "paymentMethodId", "deletedId", workspaceId=OWN_WORKSPACE),
        _mutation("createBillingPortalSession", _workspace, "workspaceId", "url", returnUrl="https://app.example/"),
        _mutation("createPayoutSetup", _workspace, "workspaceId", "url", returnUrl="https://app.example/"),
        _mutation("requestTransfer", _workspace, "workspaceId", "transfer { id }", idempotencyKey=""),
        _mutation("addTaxId", _workspace, "workspaceId", "taxId { id }", kind="eu_vat", value=""),
        _mutation("removeTaxId", _workspace, "workspaceId", "deletedId", taxId="txi 1"),
        (
            "Query.previewPlanChange",
            Question(
                _workspace,
                'query($id: ID!) { previewPlanChange(workspaceId: $id, priceId: "nothing") { userErrors { code field } } }',
                {},
            ),
        ),
        _mutation("publishModel", _workspace, "workspaceId", "publishedModel { id }", slug="NOT A SLUG", name="n"),
        _mutation("updatePublishedModel", _published, "publishedModelId", "publishedModel { id }", name=""),
        _mutation("unpublishModel", _published, "publishedModelId", "deletedId"),
        _mutation("callModel", _workspace, "workspaceId", "call { id }", **CALL),
        _mutation("startCall", _workspace, "workspaceId", "call { id }", **JOB),
        _mutation("cancelCall", _call, "callId", "call { id }"),
        _mutation("deleteAsset", _asset, "assetId", "deletedId"),
        *[
            (
                f"Workspace.{field.partition('(')[0]}",
                Question(_workspace, f"query($id: ID!) {{ workspace(id: $id) {{ {field} {selection} }} }}", {}),
            )
            for field, selection in {
                "members": "{ nodes { id } }",
                "invitations": "{ nodes { id } }",
                "plan": "{ id }",
                "subscription": "{ id }",
                "wallet": "{ id }",
                "apiKeys": "{ nodes { id } }",
                "calls": "{ nodes { id } }",
                "assets": "{ nodes { id } }",
                "storage": "{ usedBytes }",
                "rateLimit": "{ limit }",
                'usage(from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00Z")': "{ calls }",
                "publishedModels": "{ nodes { id } }",
                'earnings(from: "2026-01-01T00:00:00Z", to: "2026-02-01T00:00:00Z")': "{ calls }",
                "webhookEndpoints": "{ id }",
                "alertSettings": "{ byMail }",
                "auditLog": "{ nodes { id } }",
                "spendLimits": "{ limit }",
                "paymentMethods": "{ id }",
                "invoices": "{ nodes { id } }",
                "transfers": "{ nodes { id } }",
                "taxIds": "{ id }",
                "freeCreditsRefused": "",
            }.items()
        ],
        *[
            (f"node {prefix}", Question(target, "query($id: ID!) { node(id: $id) { __typename id } }", {}))
            for prefix, target in {
                "ws": _workspace,
                "mem": _member,
                "inv": _invitation,
                "key": _api_key,
                "wal": _wallet,
                "grant": _grant,
                "entry": _entry,
                "call": _call,
                "asset": _asset,
                "sub": _subscription,
                "pay": _payment,
                "pm": _method,
                "bill": _invoice,
                "xfer": _transfer,
                "pub": _published,
            }.items()
        ],
    ]
)


def test_every_field_that_runs_a_resolver_has_a_rule(schema: strawberry.Schema) -> None:
    running = set()
    for type_ in schema.schema_converter.type_map.values():
        definition = type_.definition
        for field in getattr(definition, "fields", ()):
            if field.base_resolver is not None and not definition.is_input:
                name = (
                    schema.config.name_converter.from_object(definition)
                    if definition.is_object_type
                    else definition.name
                )
                running.add(f"{name}.{schema.config.name_converter.get_graphql_name(field)}")
    ruled = {coordinate.partition("(")[0] for coordinate in FIELDS}
    assert running - ruled == set(), "give these fields a rule in resolvers/access_table.py"
    assert ruled - running == set(), "these rules have no field"


def test_every_rule_about_a_workspace_is_asked() -> None:
    wanted = {name for name, rule in FIELDS.items() if rule.reach is Reach.WORKSPACE}
    wanted |= {f"node {prefix}" for prefix, rule in NODES.items() if rule.reach is Reach.WORKSPACE}
    assert set(QUESTIONS) == wanted


def test_the_documentation_shows_the_table() -> None:
    assert ACCESS.read_text(encoding="utf-8") == as_markdown(), "run: python -m schema --write"


async def test_every_field_answers_everybody_as_the_table_says(house: House) -> None:
    actors = await _everybody(house)
    wrong = []
    for name, question in QUESTIONS.items():
        rule = NODES[name.removeprefix("node ")] if name.startswith("node ") else FIELDS[name]
        for who, principal in actors.items():
            target = _workspace if question.target is _new_workspace and principal.api_key_id else question.target
            id_text = await target(house)
            got = await _outcome(house, question, principal, id_text)
            expected = _expected(name, rule, principal, who, house)
            if got != expected:
                wrong.append(f"{name} as {who}: {got}, the table says {expected}")
    assert wrong == []


async def test_a_foreign_id_is_answered_like_one_made_up(house: House) -> None:
    actors = await _everybody(house)
    strangers = {who: actors[who] for who in ("a stranger", "a removed member")}
    strangers["a key of another workspace"] = Principal(
        kind=PrincipalKind.API_KEY, api_key_id=uuid7(), workspace_id=uuid7(), scopes=frozenset(ApiScope)
    )
    for (name, question), (who, principal) in itertools.product(QUESTIONS.items(), strangers.items()):
        real = await question.target(house)
        made_up = encode_id(real.rpartition("_")[0], uuid7())
        answers = {
            await _whole_answer(house, question, principal, id_text) for id_text in (real, made_up, "nonsense", "")
        }
        assert len(answers) == 1, f"{name} as {who}"


async def test_a_removed_member_is_shut_out_at_the_next_request(house: House) -> None:
    member = await house.person(Role.MEMBER)
    document = "query($id: ID!) { workspace(id: $id) { id } }"
    assert (await house.read(document, member, id=house.workspace_id))["workspace"]
    owner = await house.person(Role.OWNER)
    found = await house.read(
        "query($id: ID!) { workspace(id: $id) { members(first: 100) { nodes { id user { id } } } } }",
        owner,
        id=house.workspace_id,
    )
    wanted = encode_id("user", member.user_id)
    member_id = next(node["id"] for node in found["workspace"]["members"]["nodes"] if node["user"]["id"] == wanted)
    removed = await house.read(
        "mutation($id: ID!) { removeMember(input: {memberId: $id}) { deletedId userErrors { code } } }",
        owner,
        id=member_id,
    )
    assert removed["removeMember"] == {"deletedId": member_id, "userErrors": []}
    assert (await house.read(document, member, id=house.workspace_id))["workspace"] is None


FOR_PEOPLE = {
    "createWorkspace": '{name: "x"}',
    "acceptInvitation": '{token: "x"}',
    "changePassword": '{currentPassword: "x", newPassword: "y"}',
    "updateViewer": '{name: "x"}',
    "revokeSession": '{sessionId: "x"}',
    "signOutEverywhere": "{}",
    "enrolTwoFactor": None,
    "confirmTwoFactor": '{code: "x"}',
    "turnOffTwoFactor": '{code: "x"}',
    "setMailPreference": "{kind: PRODUCT_NEWS, wanted: false}",
}


def test_every_field_for_people_is_asked() -> None:
    assert set(FOR_PEOPLE) == {name.partition(".")[2] for name, rule in FIELDS.items() if rule.reach is Reach.PERSON}


@pytest.mark.parametrize("name", FOR_PEOPLE)
async def test_what_needs_a_person_refuses_keys_and_nobody(house: House, name: str) -> None:
    given = "" if FOR_PEOPLE[name] is None else f"(input: {FOR_PEOPLE[name]})"
    document = f"mutation {{ {name}{given} {{ userErrors {{ code }} }} }}"
    assert await house.code(document) == "UNAUTHENTICATED"
    assert await house.code(document, house.key()) == "FORBIDDEN"
    assert FIELDS[f"Mutation.{name}"].reach is Reach.PERSON


async def test_an_output_is_shown_to_its_caller_and_the_admins_only(house: House) -> None:
    asked = await house.read(
        "mutation($input: ModelCallInput!) { callModel(input: $input) { call { id } } }",
        house.key(),
        input={**CALL, "idempotencyKey": "kept"},
    )
    call_id = asked["callModel"]["call"]["id"]
    document = "query($id: ID!) { node(id: $id) { ... on ModelCall { id output { __typename } } } }"
    shown = {"output": {"__typename": "ChatOutput"}, "id": call_id}
    hidden = {"output": None, "id": call_id}
    assert (await house.read(document, house.key(ApiScope.CALLS_READ), id=call_id))["node"] == shown
    for role in Role:
        person = await house.person(role)
        expected = shown if role in {Role.OWNER, Role.ADMIN} else hidden
        assert (await house.read(document, person, id=call_id))["node"] == expected, role


async def test_a_person_is_shown_to_those_who_may_read_the_members_of_a_workspace_they_are_in(house: House) -> None:
    document = "query($id: ID!) { node(id: $id) { ... on User { id email } } }"
    actors = await _everybody(house)
    fellow = await house.person(Role.MEMBER)
    gone = await house.person(Role.MEMBER)
    await house.services.database.pool.execute("UPDATE members SET removed_at = now() WHERE user_id = $1", gone.user_id)
    stranger = await house.person(None)
    for who, principal in actors.items():
        for person in (fellow, gone, stranger):
            user_id = encode_id("user", person.user_id)
            found = (await house.read(document, principal, id=user_id))["node"]
            may = person is fellow and _may(principal, who, Action.MEMBERS_READ)
            assert (found is not None) == may, who
            assert found is None or found["id"] == user_id
    assert (await house.read(document, stranger, id=encode_id("user", stranger.user_id)))["node"] is not None
    assert NODES["user"].reach is Reach.FELLOW


async def _everybody(house: House) -> dict[str, Principal]:
    actors = {"nobody": ANONYMOUS, "a stranger": await house.person(None)}
    removed = await house.person(Role.OWNER)
    await house.services.database.pool.execute(
        "UPDATE members SET removed_at = now() WHERE user_id = $1", removed.user_id
    )
    actors["a removed member"] = removed
    for role in Role:
        house.people[role] = actors[f"role {role}"] = await house.person(role)
    for scope in ApiScope:
        actors[f"key with {scope}"] = house.key(scope)
    await house.services.accounts.invalidations.publish(Change(ChangeKind.EVERYTHING))
    return actors


def _may(principal: Principal, who: str, action: Action) -> bool:
    if principal.kind is PrincipalKind.API_KEY:
        return SCOPES[action] in principal.scopes
    return who.startswith("role ") and Role(who.removeprefix("role ")) in ROLES[action]


def _expected(name: str, rule: Rule, principal: Principal, who: str, house: House) -> str:
    assert rule.action is not None
    known = principal.kind is PrincipalKind.API_KEY or who.startswith("role ")
    if name.startswith("node "):
        return "answered" if _may(principal, who, rule.action) else "unseen"
    if principal.is_anonymous:
        return "UNAUTHENTICATED"
    if not known or (rule.seen_with is not None and not _may(principal, who, rule.seen_with)):
        return "unseen"
    if name.startswith("Workspace.") and not _may(principal, who, Action.WORKSPACE_READ):
        return "FORBIDDEN"
    return "answered" if _may(principal, who, rule.action) else "FORBIDDEN"


async def _outcome(house: House, question: Question, principal: Principal, id_text: str) -> str:
    result = await _run(house, question, principal, id_text)
    if result.errors:
        failure = request_failure_of(result.errors[0].original_error)
        assert failure is not None, result.errors
        return "unseen" if failure.code == "NOT_FOUND" else failure.code
    (answer,) = result.data.values()
    if answer is None:
        return "unseen"
    codes = [error["code"] for error in answer.get("userErrors") or []]
    about_more = [error["field"] for error in answer.get("userErrors") or []] == [["priceId"]]
    return "unseen" if codes == ["NOT_FOUND"] and not about_more else "answered"


async def _whole_answer(house: House, question: Question, principal: Principal, id_text: str) -> str:
    result = await _run(house, question, principal, id_text)
    return json.dumps([result.data, [error.formatted for error in result.errors or []]], default=str)


async def _run(house: House, question: Question, principal: Principal, id_text: str):
    if not question.document.startswith("subscription"):
        return await house.ask(question.document, principal, **question.variables(house, id_text))
    source = await house.schema.subscribe(
        question.document, variable_values=question.variables(house, id_text), context_value=house.context(principal)
    )
    async with contextlib.aclosing(source):
        results = []
        async for result in source:
            results.append(result)
            if "walletChanged" in question.document:  # it has no end
                break
    return next((result for result in results if result.errors), results[-1])
