"""The table of states is whole, and the documentation prints it."""

from datetime import UTC, datetime, timedelta

from billing.rules.standing import gives_plan
from billing.rules.subscription_states import ENDED, TRANSITIONS, Event, table_text, target_of
from models.enums import SubscriptionStatus
from tests.billing.catalog_samples import ROOT


def test_the_documentation_prints_the_table_of_the_code():
    text = (ROOT / "docs" / "subscriptions.md").read_text()
    assert table_text() in text


def test_no_state_and_event_lead_to_two_states():
    pairs = [(line.source, line.event) for line in TRANSITIONS]
    assert len(pairs) == len(set(pairs))


def test_every_event_and_every_state_has_its_place():
    assert {line.event for line in TRANSITIONS} == set(Event)
    assert {line.source for line in TRANSITIONS} | {line.target for line in TRANSITIONS} == {None, *SubscriptionStatus}


def test_every_state_can_be_reached_and_every_live_one_can_end():
    reached, grew = {None}, True
    while grew:
        more = {line.target for line in TRANSITIONS if line.source in reached} - reached
        reached |= more
        grew = bool(more)
    assert reached == {None, *SubscriptionStatus}
    for status in set(SubscriptionStatus) - ENDED:
        assert any(target_of(status, event) in ENDED for event in Event), status


def test_C11_what_was_cancelled_stays_cancelled():
    assert not any(line.source is SubscriptionStatus.CANCELED for line in TRANSITIONS)


def test_A9_the_states_that_give_a_plan_are_trialing_active_and_past_due():
    instant = datetime(2027, 1, 1, tzinfo=UTC)
    giving = {
        status
        for status in SubscriptionStatus
        if gives_plan(
            status,
            instant,
            current_period_end=None,
            grace_ends_at=instant + timedelta(seconds=1),
            cancel_at_period_end=False,
        )
    }
    assert giving == {SubscriptionStatus.TRIALING, SubscriptionStatus.ACTIVE, SubscriptionStatus.PAST_DUE}
