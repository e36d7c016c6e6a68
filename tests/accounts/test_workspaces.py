"""Workspaces, members and invitations: who gets in, who stays, who goes."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from accounts import audit, invitations, members
from accounts.acceptance import accept, accept_as_new
from accounts.errors import (
    AccountExists,
    AlreadyInvited,
    AlreadyMember,
    InvitationExpired,
    LastOwner,
    MoneyInFlight,
    NotFoundHere,
    NotInPlan,
    RoleRefused,
    SlugTaken,
    TooMany,
)
from accounts.rules.roles import ADMINISTERING
from accounts.users import sign_up
from accounts.views import Actor, ActorKind, Role
from accounts.workspace_deletion import delete_workspace, purge_deleted_workspaces
from accounts.workspaces import (
    create_workspace,
    update_workspace,
    workspace_by_slug,
    workspaces_by_ids,
    workspaces_of_user,
)
from kit import clock
from kit.errors import InvalidInput
from kit.ids import uuid7
from kit.pages import PageRequest
from metering.operations import Grant, PlaceHold, Release
from metering.views import HoldPlaced, HoldRefused
from tests.accounts.conftest import PASSWORD, VISITOR, acting, later, token_in

TEN = PageRequest(first=10)


async def invited(room, owner, workspace_id, email, role=Role.MEMBER) -> tuple:
    """An invitation and its token."""
    view = await invitations.invite(room.accounts, acting(owner), workspace_id, email, role)
    return view, token_in([mail for mail in await room.mails() if mail["To"] == view.email][-1])


async def team(room, *roles: Role) -> tuple:
    """A workspace, its owner, and a member of each role: (workspace, owner, [(tokens, member), …])."""
    owner = await room.person("owner@example.com", "Owner")
    workspace = await room.workspace_of(owner.user.id)
    joined = []
    for number, role in enumerate(roles):
        person = await room.person(f"person{number}@example.com")
        _, token = await invited(room, owner, workspace.id, person.user.email, role)
        joined.append((person, await accept(room.accounts, acting(person), person.user.id, token)))
    return workspace, owner, joined


async def own_membership(room, workspace, tokens):
    page = await members.members_of_workspace(room.accounts.database, workspace.id, TEN)
    return next(member for member in page.items if member.user.id == tokens.user.id)


async def test_workspaces_of_one_name_made_at_once_get_slugs_of_their_own(room):
    owner = await room.person("ada@example.com")
    await room.warm()
    made = await asyncio.gather(
        *(create_workspace(room.accounts.database, acting(owner), owner.user.id, "Acme & Söhne") for _ in range(8))
    )
    assert len({workspace.slug for workspace in made}) == 8
    assert {"acme-sohne", "acme-sohne-2"} <= {workspace.slug for workspace in made}
    assert await room.pg.fetchval("SELECT count(*) FROM wallets") == 9


@pytest.mark.parametrize("name", ["東京 チーム", "\u202eevil", "a" * 200, "👩‍🚀", "admin", "!!!"])
async def test_names_of_any_script_make_workspaces(room, name):
    owner = await room.person("ada@example.com")
    made = await create_workspace(room.accounts.database, acting(owner), owner.user.id, name)
    assert await workspace_by_slug(room.accounts.database, made.slug) is not None


async def test_names_that_are_none_make_no_workspace(room):
    owner = await room.person("ada@example.com")
    for name in ("", " \u200b", "\ud800", "x" * 201):
        with pytest.raises(InvalidInput):
            await create_workspace(room.accounts.database, acting(owner), owner.user.id, name)


async def test_a_person_owns_a_bounded_number_of_workspaces(room, monkeypatch):
    monkeypatch.setattr("accounts.workspaces.MAX_OWNED", 3)
    owner = await room.person("ada@example.com")
    answers = await asyncio.gather(
        *(create_workspace(room.accounts.database, acting(owner), owner.user.id, "More") for _ in range(5)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, TooMany) for answer in answers) == 3


async def test_a_workspace_is_renamed_and_reslugged_but_not_onto_another(room):
    owner = await room.person("ada@example.com", "Ada")
    first = await room.workspace_of(owner.user.id)
    second = await create_workspace(room.accounts.database, acting(owner), owner.user.id, "Second")
    changed = await update_workspace(
        room.accounts.database, acting(owner), second.id, name=" New  name", slug="New-Slug", store_outputs=True
    )
    assert (changed.name, changed.slug, changed.store_outputs) == ("New name", "new-slug", True)
    with pytest.raises(SlugTaken):
        await update_workspace(room.accounts.database, acting(owner), second.id, slug=first.slug)
    with pytest.raises(InvalidInput):
        await update_workspace(room.accounts.database, acting(owner), second.id, slug="graphql")
    with pytest.raises(NotFoundHere):
        await update_workspace(room.accounts.database, acting(owner), uuid4(), name="x")
    assert await workspace_by_slug(room.accounts.database, "\ud800") is None


async def test_workspaces_are_listed_by_role_in_pages(room):
    workspace, _, ((person, _),) = await team(room, Role.BILLING)
    mine = await workspaces_of_user(room.accounts.database, person.user.id, TEN)
    assert [item.viewer_role for item in mine.items] == [Role.OWNER, Role.BILLING]
    administered = await workspaces_of_user(room.accounts.database, person.user.id, TEN, roles=[*ADMINISTERING])
    assert [item.viewer_role for item in administered.items] == [Role.OWNER]
    first = await workspaces_of_user(room.accounts.database, person.user.id, PageRequest(first=1))
    assert first.has_next
    rest = await workspaces_of_user(
        room.accounts.database, person.user.id, PageRequest(first=1, after=first.cursors[0])
    )
    assert [item.id for item in rest.items] == [workspace.id]
    assert not rest.has_next


async def test_a_workspace_is_not_deleted_while_a_call_runs_then_it_is_and_its_credits_freeze(room, ledger, time):
    owner = await room.person("ada@example.com", "Ada")
    workspace = await room.workspace_of(owner.user.id)
    grant = Grant(uuid7(), workspace.wallet_id, "TOP_UP", 1000, time.at, None, "test", "1", "", 4)
    hold = PlaceHold(
        uuid7(), workspace.wallet_id, workspace.id, 100, "m", None, None, "r", time.at + timedelta(minutes=5), {}
    )
    await ledger.submit(grant)
    assert isinstance(await ledger.submit(hold), HoldPlaced)
    with pytest.raises(MoneyInFlight, match="a call is running"):
        await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)
    await ledger.submit(Release(hold.call_id, workspace.wallet_id, workspace.id))
    assert await room.principals.role_of(owner.user.id, workspace.id) is Role.OWNER
    await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)
    assert await room.principals.role_of(owner.user.id, workspace.id) is None
    assert await workspaces_by_ids(room.accounts.database, [workspace.id]) == {}
    assert await room.pg.fetchval("SELECT frozen_reason FROM credit_grants") == "WORKSPACE_DELETED"
    after = PlaceHold(
        uuid7(), workspace.wallet_id, workspace.id, 100, "m", None, None, "r", time.at + timedelta(minutes=5), {}
    )
    assert isinstance(await ledger.submit(after), HoldRefused)
    with pytest.raises(NotFoundHere):
        await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)
    again = await create_workspace(room.accounts.database, acting(owner), owner.user.id, "Ada")
    assert again.slug == workspace.slug


@pytest.mark.parametrize(
    "statement",
    [
        (
            "INSERT INTO payments (id, workspace_id, purpose, amount_usd_micro, status, created_at, updated_at)"
            " VALUES (gen_random_uuid(), $1, 'TOP_UP', 1, 'PENDING', now(), now())"
        ),
        (
            "INSERT INTO transfers (id, workspace_id, amount_micro, amount_usd_micro, status, grant_ids, grant_amounts_micro,"
            " requested_at, updated_at) VALUES (gen_random_uuid(), $1, 1, 1, 'IN_REVIEW', '{}', '{}', now(), now())"
        ),
    ],
)
async def test_a_workspace_is_not_deleted_while_a_payment_or_transfer_is_open(room, ledger, statement):
    owner = await room.person("ada@example.com", "Ada")
    workspace = await room.workspace_of(owner.user.id)
    await room.pg.execute(statement, workspace.id)
    with pytest.raises(MoneyInFlight):
        await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)


async def test_content_is_purged_a_month_after_the_deletion_and_the_ledger_stays(room, ledger, time):
    owner = await room.person("ada@example.com", "Ada")
    workspace = await room.workspace_of(owner.user.id)
    await ledger.submit(Grant(uuid7(), workspace.wallet_id, "TOP_UP", 1000, time.at, None, "test", "1", "", 4))
    await room.pg.execute(
        "INSERT INTO call_outputs (call_id, workspace_id, key_version, sealed, created_at) VALUES ($1, $2, 1, 'x', now())",
        uuid4(),
        workspace.id,
    )
    await delete_workspace(room.accounts, ledger, acting(owner), workspace.id)
    later(time, days=29)
    assert await purge_deleted_workspaces(room.accounts.database) == ()
    later(time, days=2)
    assert await purge_deleted_workspaces(room.accounts.database) == (workspace.id,)
    assert await purge_deleted_workspaces(room.accounts.database) == ()
    assert await room.pg.fetchval("SELECT count(*) FROM call_outputs") == 0
    assert await room.pg.fetchval("SELECT count(*) FROM ledger_entries") == 1
    assert await room.pg.fetchval("SELECT name FROM workspaces") == "Deleted workspace"


async def test_the_invited_are_in_the_moment_they_accept(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    person = await room.person("ada@example.com")
    assert await room.principals.role_of(person.user.id, workspace.id) is None
    view, token = await invited(room, owner, workspace.id, " ADA@Example.com ", Role.ADMIN)
    page = await invitations.invitations_of_workspace(room.accounts.database, workspace.id, TEN)
    assert [item.id for item in page.items] == [view.id]
    member = await accept(room.accounts, acting(person), person.user.id, token)
    assert member.role is Role.ADMIN
    assert await room.principals.role_of(person.user.id, workspace.id) is Role.ADMIN
    page = await invitations.invitations_of_workspace(room.accounts.database, workspace.id, TEN)
    assert page.items == ()


async def test_an_invitation_token_is_nothing_to_another_person_and_good_once(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    ada, eve = await room.person("ada@example.com"), await room.person("eve@example.com")
    _, token = await invited(room, owner, workspace.id, "ada@example.com")
    with pytest.raises(NotFoundHere):
        await accept(room.accounts, acting(eve), eve.user.id, token)
    await room.warm()
    answers = await asyncio.gather(
        *(accept(room.accounts, acting(ada), ada.user.id, token) for _ in range(3)), return_exceptions=True
    )
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert sum(isinstance(answer, InvitationExpired) for answer in answers) == 2
    for other in ("", "x" * 43, "x" * 100_000, "\ud800", "\x00"):
        with pytest.raises(NotFoundHere):
            await accept(room.accounts, acting(ada), ada.user.id, other)


async def test_revoked_expired_and_resent_tokens_do_not_let_in(room, time):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    ada = await room.person("ada@example.com")
    first, token = await invited(room, owner, workspace.id, "ada@example.com")
    with pytest.raises(AlreadyInvited):
        await invitations.invite(room.accounts, acting(owner), workspace.id, "Ada@example.com", Role.MEMBER)
    await invitations.resend(room.accounts, acting(owner), workspace.id, first.id)
    resent = await room.mailed_token()
    with pytest.raises(NotFoundHere):
        await accept(room.accounts, acting(ada), ada.user.id, token)
    await invitations.revoke(room.accounts, acting(owner), workspace.id, first.id)
    with pytest.raises(InvitationExpired):
        await accept(room.accounts, acting(ada), ada.user.id, resent)
    with pytest.raises(NotFoundHere):
        await invitations.revoke(room.accounts, acting(owner), workspace.id, first.id)
    _, late = await invited(room, owner, workspace.id, "ada@example.com")
    later(time, days=7, seconds=1)
    with pytest.raises(InvitationExpired):
        await accept(room.accounts, acting(ada), ada.user.id, late)
    _, fresh = await invited(room, owner, workspace.id, "ada@example.com")
    await accept(room.accounts, acting(ada), ada.user.id, fresh)
    with pytest.raises(AlreadyMember):
        await invitations.invite(room.accounts, acting(owner), workspace.id, "ada@example.com", Role.MEMBER)


async def test_someone_without_an_account_joins_with_the_token_alone(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    await sign_up(room.accounts, VISITOR, "new@example.com", "a stranger's password", "Eve")
    _, token = await invited(room, owner, workspace.id, "new@example.com", Role.BILLING)
    tokens, member = await accept_as_new(room.accounts, VISITOR, token, PASSWORD, "New One")
    assert (member.role, member.user.name, tokens.user.email_verified) == (Role.BILLING, "New One", True)
    own = await workspaces_of_user(room.accounts.database, tokens.user.id, TEN)
    assert {item.viewer_role for item in own.items} == {Role.OWNER, Role.BILLING}
    _, second = await invited(room, tokens, own.items[0].id, "owner@example.com")
    with pytest.raises(AccountExists):
        await accept_as_new(room.accounts, VISITOR, second, PASSWORD, "Owner")


async def test_a_plan_without_team_management_neither_invites_nor_admits(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    ada = await room.person("ada@example.com")
    _, token = await invited(room, owner, workspace.id, "ada@example.com")
    room.plans.downgrade(team_management=False)
    with pytest.raises(NotInPlan):
        await invitations.invite(room.accounts, acting(owner), workspace.id, "bob@example.com", Role.MEMBER)
    with pytest.raises(NotInPlan):
        await accept(room.accounts, acting(ada), ada.user.id, token)
    room.plans.downgrade(team_management=True)
    await accept(room.accounts, acting(ada), ada.user.id, token)


async def test_the_last_seat_of_a_downgraded_plan_is_taken_once(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    people = [await room.person(f"p{number}@example.com") for number in range(3)]
    tokens = [(await invited(room, owner, workspace.id, person.user.email))[1] for person in people]
    room.plans.downgrade(members_limit=2)
    await room.warm()
    answers = await asyncio.gather(
        *(accept(room.accounts, acting(p), p.user.id, token) for p, token in zip(people, tokens, strict=True)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, TooMany) for answer in answers) == 2
    assert (
        await room.pg.fetchval(
            "SELECT count(*) FROM members WHERE workspace_id = $1 AND removed_at IS NULL", workspace.id
        )
        == 2
    )
    with pytest.raises(TooMany):
        await invitations.invite(room.accounts, acting(owner), workspace.id, "p9@example.com", Role.MEMBER)


async def test_the_removed_lose_access_at_once_and_keep_their_own(room):
    workspace, owner, ((person, member),) = await team(room, Role.MEMBER)
    assert await room.principals.role_of(person.user.id, workspace.id) is Role.MEMBER
    await members.remove_member(room.accounts, acting(owner), workspace.id, member.id)
    assert await room.principals.role_of(person.user.id, workspace.id) is None
    await room.principals.resolve(person.access_token)
    assert (await room.workspace_of(person.user.id)).viewer_role is Role.OWNER
    assert "no member" in (await room.mails())[-1]["Subject"]
    with pytest.raises(NotFoundHere):
        await members.remove_member(room.accounts, acting(owner), workspace.id, member.id)
    _, token = await invited(room, owner, workspace.id, person.user.email, Role.ADMIN)
    await accept(room.accounts, acting(person), person.user.id, token)
    assert await room.principals.role_of(person.user.id, workspace.id) is Role.ADMIN


async def test_a_change_of_role_counts_at_once(room):
    workspace, owner, ((person, member),) = await team(room, Role.MEMBER)
    assert await room.principals.role_of(person.user.id, workspace.id) is Role.MEMBER
    await members.change_role(room.accounts, acting(owner), workspace.id, member.id, Role.BILLING)
    assert await room.principals.role_of(person.user.id, workspace.id) is Role.BILLING


async def test_an_admin_touches_no_owner_and_a_removed_admin_touches_nobody(room):
    workspace, owner, ((admin, admin_member), (_, member)) = await team(room, Role.ADMIN, Role.MEMBER)
    theirs = await own_membership(room, workspace, owner)
    for attempt in (
        members.remove_member(room.accounts, acting(admin), workspace.id, theirs.id),
        members.change_role(room.accounts, acting(admin), workspace.id, theirs.id, Role.MEMBER),
        members.change_role(room.accounts, acting(admin), workspace.id, admin_member.id, Role.OWNER),
        invitations.invite(room.accounts, acting(admin), workspace.id, "x@example.com", Role.OWNER),
    ):
        with pytest.raises(RoleRefused):
            await attempt
    await members.remove_member(room.accounts, acting(owner), workspace.id, admin_member.id)
    with pytest.raises(NotFoundHere):
        await members.change_role(room.accounts, acting(admin), workspace.id, member.id, Role.ADMIN)


async def test_an_invitation_ends_with_its_inviters_right_to_give_the_role(room):
    workspace, owner, [(admin, theirs), (other, others)] = await team(room, Role.ADMIN, Role.OWNER)
    second = await room.person("second@example.com")
    third = await room.person("third@example.com")
    first, token = await invited(room, admin, workspace.id, "second@example.com", Role.ADMIN)
    _, owning = await invited(room, other, workspace.id, "third@example.com", Role.OWNER)
    _, new = await invited(room, admin, workspace.id, "new@example.com", Role.ADMIN)
    await members.remove_member(room.accounts, acting(owner), workspace.id, theirs.id)
    await members.change_role(room.accounts, acting(owner), workspace.id, others.id, Role.ADMIN)
    for person, stale in ((second, token), (third, owning)):
        with pytest.raises(InvitationExpired):
            await accept(room.accounts, acting(person), person.user.id, stale)
    with pytest.raises(InvitationExpired):
        await accept_as_new(room.accounts, VISITOR, new, PASSWORD, "New")
    await room.mails()
    await invitations.resend(room.accounts, acting(owner), workspace.id, first.id)
    joined = await accept(room.accounts, acting(second), second.user.id, await room.mailed_token())
    assert joined.role is Role.ADMIN


async def test_an_operators_invitation_stands_for_itself(room):
    owner = await room.person("owner@example.com")
    workspace = await room.workspace_of(owner.user.id)
    ada = await room.person("ada@example.com")
    await invitations.invite(room.accounts, Actor(ActorKind.OPERATOR), workspace.id, "ada@example.com", Role.OWNER)
    joined = await accept(room.accounts, acting(ada), ada.user.id, await room.mailed_token())
    assert joined.role is Role.OWNER


async def test_an_api_key_invites_and_removes_plain_members_only(room):
    workspace, _, ((_, admin), (_, member)) = await team(room, Role.ADMIN, Role.MEMBER)
    key = Actor(ActorKind.API_KEY, uuid4())
    with pytest.raises(RoleRefused):
        await invitations.invite(room.accounts, key, workspace.id, "x@example.com", Role.ADMIN)
    with pytest.raises(RoleRefused):
        await members.remove_member(room.accounts, key, workspace.id, admin.id)
    await invitations.invite(room.accounts, key, workspace.id, "x@example.com", Role.MEMBER)
    await members.remove_member(room.accounts, key, workspace.id, member.id)


async def test_a_member_of_another_workspace_is_not_found_here(room):
    workspace, owner, ((person, _),) = await team(room, Role.MEMBER)
    elsewhere = await room.workspace_of(person.user.id)
    theirs = await own_membership(room, elsewhere, person)
    with pytest.raises(NotFoundHere):
        await members.remove_member(room.accounts, acting(owner), workspace.id, theirs.id)


async def test_of_two_owners_who_demote_each_other_at_once_one_stays(room):
    workspace, owner, ((second, other),) = await team(room, Role.OWNER)
    await room.warm()
    mine = await own_membership(room, workspace, owner)
    for _ in range(3):
        answers = await asyncio.gather(
            members.change_role(room.accounts, acting(owner), workspace.id, other.id, Role.MEMBER),
            members.change_role(room.accounts, acting(second), workspace.id, mine.id, Role.MEMBER),
            return_exceptions=True,
        )
        assert sum(isinstance(answer, Exception) for answer in answers) == 1
        owners = await room.pg.fetch(
            "SELECT user_id FROM members WHERE workspace_id = $1 AND role = 'OWNER' AND removed_at IS NULL",
            workspace.id,
        )
        assert len(owners) == 1
        await room.pg.execute("UPDATE members SET role = 'OWNER' WHERE workspace_id = $1", workspace.id)


async def test_of_two_owners_who_leave_at_once_one_stays(room):
    workspace, owner, ((second, _),) = await team(room, Role.OWNER)
    await room.warm()
    answers = await asyncio.gather(
        *(members.leave(room.accounts, acting(one), workspace.id, one.user.id) for one in (owner, second)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers if answer is not None] == [LastOwner]


async def test_the_last_owner_neither_leaves_nor_steps_down(room):
    workspace, owner, _ = await team(room, Role.ADMIN)
    mine = await own_membership(room, workspace, owner)
    with pytest.raises(LastOwner):
        await members.leave(room.accounts, acting(owner), workspace.id, owner.user.id)
    with pytest.raises(LastOwner):
        await members.change_role(room.accounts, acting(owner), workspace.id, mine.id, Role.ADMIN)


async def test_members_are_listed_in_pages(room):
    workspace, _, _ = await team(room, Role.ADMIN, Role.MEMBER)
    first = await members.members_of_workspace(room.accounts.database, workspace.id, PageRequest(first=2))
    rest = await members.members_of_workspace(
        room.accounts.database, workspace.id, PageRequest(first=2, after=first.cursors[-1])
    )
    assert [member.role for member in (*first.items, *rest.items)] == [Role.OWNER, Role.ADMIN, Role.MEMBER]
    assert (first.has_next, rest.has_next) == (True, False)


async def test_the_audit_log_tells_who_did_what_from_where_the_newest_first(room):
    workspace, owner, ((_, member),) = await team(room, Role.MEMBER)
    await members.change_role(room.accounts, acting(owner), workspace.id, member.id, Role.ADMIN)
    page = await audit.page_of_workspace(room.accounts.database, workspace.id, PageRequest(first=3))
    assert [event.action for event in page.items] == ["member.change_role", "invitation.accept", "invitation.create"]
    newest = page.items[0]
    assert (newest.actor_kind, newest.actor_id) == (ActorKind.USER, owner.user.id)
    assert (newest.address, newest.request_id, newest.subject_id) == ("203.0.113.7", "req-2", member.id)
    assert newest.facts["before"] == "MEMBER"
    rest = await audit.page_of_workspace(
        room.accounts.database, workspace.id, PageRequest(first=3, after=page.cursors[-1])
    )
    assert [event.action for event in rest.items] == ["workspace.create"]
    assert clock.now() >= newest.created_at


async def test_a_refused_change_leaves_no_event(room):
    workspace, owner, _ = await team(room)
    mine = await own_membership(room, workspace, owner)
    before = await room.pg.fetchval("SELECT count(*) FROM audit_events")
    with pytest.raises(LastOwner):
        await members.remove_member(room.accounts, acting(owner), workspace.id, mine.id)
    assert await room.pg.fetchval("SELECT count(*) FROM audit_events") == before
