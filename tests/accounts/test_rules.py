"""Pure rules of the accounts room: addresses, names, slugs, keys, roles, codes."""

import base64
import itertools
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.errors import LastOwner, RoleRefused
from accounts.rules import key_form, names, networks, slugs, totp
from accounts.rules.emails import masked, parse_email
from accounts.rules.key_terms import KeyTerms, checked
from accounts.rules.membership import check_may_assign, check_may_change, check_may_remove
from accounts.rules.roles import ROLES, SCOPES, Action, ApiScope, Role, as_markdown, role_may, scopes_may
from kit.errors import InvalidInput
from kit.sealing import Sealer, SealError, parse_keys, row_context
from models import enums

DOCS = Path(__file__).parents[2] / "docs" / "roles.md"


@pytest.mark.parametrize(
    "spelling",
    ["Ada@Example.COM", "  ada@example.com ", "ADA@example.com\n", "ada@example.com", "ＡＤＡ@example.com"],
)
def test_spellings_of_one_address_have_one_key(spelling):
    assert parse_email(spelling).key == "ada@example.com"


def test_an_international_domain_and_its_punycode_are_one():
    assert parse_email("ada@münchen.de").key == parse_email("ada@XN--mnchen-3ya.de").key == "ada@xn--mnchen-3ya.de"


def test_a_whole_script_look_alike_domain_is_another_key_and_looks_like_it():
    cyrillic = parse_email("ada@аррӏе.com")
    assert cyrillic.key != "ada@apple.com"
    assert cyrillic.text.startswith("ada@xn--")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.com",
        "ada@",
        "ada@localhost",
        "ada@@example.com",
        "ada@exa mple.com",
        "аda@example.com",  # a Cyrillic а
        "ada@exаmple.com",  # in the domain, mixed with Latin
        "ada@xn--exmple-4nf.com",  # the same in punycode
        "ada@[127.0.0.1]",
        "ada@127.0.0.1",
        '"a b"@example.com',
        "ada.@example.com",
        "a..b@example.com",
        "ada@-example.com",
        "ada@example..com",
        "ada@xn--\u0080.com",
        "ada\r\nBcc: x@example.com",
        "ada@example.com\x00",
        "ada\u202e@example.com",
        "\ud800@example.com",
        "a" * 65 + "@example.com",
        "ada@" + "a" * 64 + ".com",
        "ada@" + ".".join(["a" * 60] * 5) + ".com",
        "a" * 100_000,
    ],
)
def test_what_no_mail_can_be_sent_to_is_refused(text):
    with pytest.raises(InvalidInput):
        parse_email(text)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused_and_parsing_twice_changes_nothing(text):
    try:
        address = parse_email(text)
    except InvalidInput:
        return
    assert parse_email(address.text) == address
    assert parse_email(address.key).key == address.key


def test_a_masked_address_keeps_the_domain():
    assert masked("ada@example.com") == "a…@example.com"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  Ada   Lovelace ", "Ada Lovelace"),
        ("Ada\r\nBcc: x", "Ada Bcc: x"),
        ("\u202eecalevoL", "ecalevoL"),
        ("a" + "\u0301" * 50, "á" + "\u0301" * 4),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("محمد", "محمد"),
        ("A\x00B", "A B"),
    ],
)
def test_names_lose_what_deceives_and_keep_what_is_written(text, cleaned):
    assert names.clean_name(text) == cleaned


@pytest.mark.parametrize("text", ["", "   ", "\u200b", "\u200d", "\u202e", "\ud800", "x" * 201, "x" * 1_000_000])
def test_names_that_are_none_are_refused(text):
    with pytest.raises(InvalidInput):
        names.clean_name(text)


@given(st.text(alphabet=st.characters(), max_size=300))
def test_a_clean_name_is_stable_and_fits_the_column(text):
    try:
        cleaned = names.clean_name(text)
    except InvalidInput:
        return
    assert names.clean_name(cleaned) == cleaned
    assert 1 <= len(cleaned) <= 200
    cleaned.encode()


@given(st.text(max_size=100))
def test_every_name_has_a_slug_that_a_person_could_choose(name):
    for slug in itertools.islice(slugs.candidates(name, iter(["abc"])), 6):
        assert slugs.parse_slug(slug) == slug


@pytest.mark.parametrize(
    ("name", "slug"), [("Müller & Söhne", "muller-sohne"), ("東京", "workspace"), ("Łódź", "lodz"), ("--", "workspace")]
)
def test_slugs_come_from_names(name, slug):
    assert slugs.derive_slug(name) == slug


def test_a_reserved_word_is_no_slug():
    assert next(slugs.candidates("Admin", iter([]))) == "admin-2"
    with pytest.raises(InvalidInput):
        slugs.parse_slug("Admin")


@pytest.mark.parametrize("slug", ["", "-a", "a-", "a_b", "a b", "xn--80ak6aa92e", "ä", "a" * 64, "\ud800"])
def test_slugs_of_other_forms_are_refused(slug):
    with pytest.raises(InvalidInput):
        slugs.parse_slug(slug)


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["live", "test"]), st.integers(0, 45))
@settings(max_examples=50)
def test_a_key_with_one_wrong_character_is_known_as_such(randomness, environment, place):
    key = key_form.compose(environment, randomness)
    assert key_form.is_key(key)
    assert len(key) == 46
    wrong = key[:place] + ("x" if key[place] != "x" else "y") + key[place + 1 :]
    assert not key_form.is_key(wrong)


@pytest.mark.parametrize("text", ["", "tg_live_", "sk-live-abc", "tg_live_" + "0" * 37 + "é", "tg_prod_" + "0" * 38])
def test_other_texts_are_no_keys(text):
    assert not key_form.is_key(text)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"requests_per_hour": 0}, "requestsPerHour must be from 1 to 1000000000."),
        ({"monthly_limit_micro": -1}, "monthlyCreditLimit must not be below zero."),
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, "expiresAt must lie in the future."),
    ],
)
def test_a_keys_terms_are_told_what_they_must_be(wrong, told):
    with pytest.raises(InvalidInput) as refused:
        checked(KeyTerms(name="k", scopes=(ApiScope.CALLS_READ,), **wrong), datetime(2026, 1, 2, tzinfo=UTC))
    assert refused.value.message == told


def test_networks_admit_their_addresses_only():
    allowed = [ip_network(text) for text in networks.parse_networks(["203.0.113.9/24", "2001:db8::/32"])]
    assert networks.admits(allowed, "203.0.113.200")
    assert networks.admits(allowed, "::ffff:203.0.113.200")
    assert networks.admits(allowed, "2001:db8::1")
    assert not networks.admits(allowed, "198.51.100.1")
    assert not networks.admits(allowed, None)
    assert not networks.admits(allowed, "unix:")
    assert networks.admits([], None)
    with pytest.raises(InvalidInput):
        networks.parse_networks(["everywhere"])


def test_codes_are_those_of_rfc_6238():
    secret = b"12345678901234567890"
    for seconds, code in ((59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")):
        at = datetime.fromtimestamp(seconds, UTC)
        assert totp.code_at(secret, totp.step_at(at)) == code
        assert totp.matching_step(secret, code, at, None) == totp.step_at(at)
        assert totp.matching_step(secret, code, at, totp.step_at(at)) is None
    assert totp.matching_step(secret, "２８７０８２", datetime.fromtimestamp(59, UTC), None) is None


def test_the_table_says_something_about_every_action_and_the_columns_hold_its_words():
    assert set(ROLES) == set(Action) == set(SCOPES)
    assert [*Role] == [*map(str, enums.Role)]
    assert {*ApiScope} == {*map(str, enums.ApiScope)}
    assert all(Role.OWNER in roles for roles in ROLES.values())
    assert {scope for scope in SCOPES.values() if scope} == set(ApiScope)


def test_a_stranger_and_a_key_without_scopes_may_nothing():
    for action in Action:
        assert not role_may(None, action)
        assert not scopes_may(frozenset(), action)


def test_no_scope_lets_a_key_mint_keys_raise_members_or_pay_out():
    for action in (Action.KEYS_WRITE, Action.MEMBERS_UPDATE, Action.TRANSFERS_WRITE, Action.WORKSPACE_DELETE):
        assert not scopes_may(frozenset(ApiScope), action)


def test_docs_show_the_table_of_roles():
    begin, end = "<!-- roles: begin -->\n", "<!-- roles: end -->"
    text = DOCS.read_text()
    assert text.partition(begin)[2].partition(end)[0] == as_markdown(), (
        f"put this between the markers:\n{as_markdown()}"
    )


def test_only_owners_make_and_unmake_owners():
    check_may_assign(Role.OWNER, Role.OWNER)
    check_may_assign(Role.ADMIN, Role.ADMIN)
    check_may_assign(None, Role.MEMBER)
    for acting, role in (
        (Role.ADMIN, Role.OWNER),
        (None, Role.ADMIN),
        (Role.BILLING, Role.MEMBER),
        (Role.MEMBER, Role.MEMBER),
    ):
        with pytest.raises(RoleRefused):
            check_may_assign(acting, role)
    with pytest.raises(RoleRefused):
        check_may_change(Role.ADMIN, Role.OWNER, Role.MEMBER, 2)
    with pytest.raises(RoleRefused):
        check_may_remove(Role.ADMIN, Role.OWNER, 2, is_self=False)


def test_the_last_owner_stays():
    with pytest.raises(LastOwner):
        check_may_change(Role.OWNER, Role.OWNER, Role.ADMIN, 1)
    with pytest.raises(LastOwner):
        check_may_remove(Role.OWNER, Role.OWNER, 1, is_self=True)
    check_may_remove(Role.OWNER, Role.OWNER, 2, is_self=True)
    check_may_remove(Role.MEMBER, Role.MEMBER, 1, is_self=True)


def test_a_seal_opens_in_its_place_only_and_under_each_configured_version():
    old, both = Sealer({1: b"o" * 32}, 1), Sealer({1: b"o" * 32, 2: b"n" * 32}, 2)
    place, other = (row_context("users", "totp", UUID(int=number)) for number in (1, 2))
    sealed = old.seal(b"secret", place)
    assert both.open(sealed, place) == b"secret"
    assert both.open(both.seal(b"secret", place), place) == b"secret"
    assert both.version_of(both.seal(b"", place)) == 2
    for bad, where in (
        (sealed, other),
        (sealed[:-1], place),
        (sealed[:1], place),
        (b"", place),
        (both.seal(b"x", place), place),
    ):
        with pytest.raises(SealError):
            old.open(bad, where)
    assert old.derive("a") != old.derive("b")
    assert both.derive("a", version=1) == old.derive("a")


def test_secret_keys_are_read_with_and_without_versions():
    one, two = "x" * 32, "y" * 32
    assert parse_keys(one) == ({1: one.encode()}, 1)
    assert parse_keys(f"2:{two},1:{one}") == ({2: two.encode(), 1: one.encode()}, 2)
    for bad in ("short", f"2:{two},2:{one}", f"300:{two}", f"0:{two}", "2:short", f"2:{two},{one}"):
        with pytest.raises(ValueError):
            parse_keys(bad)


def test_the_enrolment_address_holds_the_secret_in_base_32():
    uri = totp.enrolment_uri(b"12345678901234567890", "ada@example.com", "Toll gate")
    assert uri.startswith("otpauth://totp/Toll%20gate:ada%40example.com?")
    assert base64.b32encode(b"12345678901234567890").decode() in uri
