"""Prices of a catalog that depend on what is asked: what can be read, what contradicts itself, how it is kept and told."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from click.testing import CliRunner
from hypothesis import given

from app.cli import cli
from billing.catalog import load_snapshot
from billing.catalog_apply import apply, plan_changes
from billing.catalog_check import check
from billing.catalog_text import render_catalog, render_change, render_check
from billing.errors import CatalogErrors
from billing.margin_text import render_margins
from billing.rules.margins import CostsError, margins_of, read_costs
from metering.rules.conditions import Condition, conditions_json, conditions_of
from metering.rules.price_list import ListedPrice, PriceList
from metering.rules.rating import MeterPrice
from tests.billing.catalog_samples import file_of, shipped, small
from tests.billing.test_catalog_fuzz import VALUES, outcome

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=40)
HD = {"meter": "IMAGES", "credits": "4", "when": {"quality": "hd"}}


def with_prices(*more: dict, slug: str = "image") -> dict:
    values = small()
    values["models"][slug]["prices"] += more
    return values


def when_of(given: object) -> tuple[Condition, ...]:
    return file_of(with_prices(HD | {"when": given})).models["image"].prices[1].when


def problems_of(values: dict) -> list[str]:
    with pytest.raises(CatalogErrors) as caught:
        file_of(values)
    return list(caught.value.problems)


def test_conditions_are_read_sorted_and_as_they_are_compared():
    assert when_of({"size": ["1792x1024", "1024X1792"], "quality": "HD"}) == (
        Condition("quality", ("hd",)),
        Condition("size", ("1024x1792", "1792x1024")),
    )
    assert when_of({"seconds": [10, 2.5], "sound": True}) == conditions_of(
        {"seconds": ["10", "2.5"], "sound": ["true"]}
    )


def test_a_nested_field_is_named_with_dots_or_by_nested_tables():
    assert when_of({"output.resolution": "4k"}) == when_of({"output": {"resolution": "4K"}})
    assert when_of({"input.mode": "pro"}) == (Condition("input.mode", ("pro",)),)


@pytest.mark.parametrize(
    ("when", "place", "words"),
    [
        ("hd", "when", "expected a table of fields and values"),
        ({}, "when", "expected a table of fields and values"),
        ({"quality": []}, "when.quality", "1 to 32 values, found 0"),
        ({"quality": [str(number) for number in range(33)]}, "when.quality", "1 to 32 values, found 33"),
        ({"quality": {}}, "when.quality", "expected a text of 1 to 64 characters, a number, true or false"),
        ({"quality": ["hd", ["low"]]}, "when.quality", "found a list"),
        ({"quality": " "}, "when.quality", "expected a text"),
        ({"quality": "a\0b"}, "when.quality", "expected a text"),
        ({"quality": "x" * 65}, "when.quality", "expected a text"),
        ({"quality": 10**12}, "when.quality", "expected a text"),
        ({"quality": ["hd", "HD"]}, "when.quality", "'HD' is listed twice"),
        ({"quality": "hd", "Quality": "low"}, "when.Quality", "the field is named twice"),
        ({"a": {"b": 1}, "a.b": 2}, 'when."a.b"', "the field is named twice"),
        ({"a": 1, "A.b": 2}, 'when."A.b"', "a field and one below it"),
        ({"a.b": 1, "a": 2}, "when.a", "a field and one below it"),
        ({"a..b": 1}, 'when."a..b"', "expected the name of a field"),
        ({"a.b.c.d.e.f": 1}, 'when."a.b.c.d.e.f"', "expected the name of a field"),
        ({"prompt": "a cat"}, "when.prompt", "not on its texts"),
        ({"Messages.content": "a cat"}, 'when."Messages.content"', "not on its texts"),
        ({"input": "a cat"}, "when.input", "not on its texts"),
        ({"model": "image"}, "when.model", "not on its texts"),
        ({f"field_{number}": 1 for number in range(7)}, "when", "at most 6 fields, found 7"),
    ],
)
def test_conditions_that_cannot_stand_are_refused_at_their_field(when, place, words):
    [problem] = problems_of(with_prices(HD | {"when": when}))
    assert problem.startswith(f"catalogs/small.toml: models.image.prices[1].{place}: ")
    assert words in problem


@given(VALUES)
def test_whatever_stands_under_when_is_read_or_refused_and_what_is_read_is_found_again(value):
    file, problems = outcome(lambda: file_of(with_prices(HD | {"when": value})))
    assert problems or file is not None
    if file is not None and (when := file.models["image"].prices[1].when):
        body: dict = {}
        for condition in when:
            *above, last = condition.field.split(".")
            place = body
            for name in above:
                place = place.setdefault(name, {})
            place[last] = condition.values[0]
        rates = PriceList(
            ListedPrice(MeterPrice(price.meter, price.credits_micro, price.per), price.when)
            for price in file.models["image"].prices
        ).rates_for(body)
        assert [price.credits_micro for price in rates.prices] == [4_000_000]
        assert conditions_of(conditions_json(when)) == when


def test_a_price_under_the_same_conditions_is_refused():
    same = {"meter": "IMAGES", "credits": "5", "when": {"quality": ["HD"]}}
    assert problems_of(with_prices(HD, same)) == [
        "catalogs/small.toml: models.image.prices[2].meter: the meter IMAGES has a price already under the same conditions"
    ]


def test_more_than_64_prices_of_a_model_are_refused():
    many = [HD | {"when": {"quality": f"q{number}"}} for number in range(64)]
    assert "expected a list of at most 64 tables, found 65" in problems_of(with_prices(*many))[0]


def test_a_meter_that_only_some_requests_have_a_price_for_is_an_error():
    values = small()
    values["models"]["image"]["prices"] = [HD, {"meter": "REQUESTS", "credits": "1"}]
    [finding] = check(file_of(values))
    assert (finding.path, finding.is_error) == ("models.image.prices[0].when", True)
    assert finding.message == "IMAGES has no price without `when`, so that a request with other values would be free"


def test_a_chains_own_price_with_conditions_is_an_error():
    values = small()
    values["plans"]["pro"]["entitlements"]["chained_models"] = True
    steps = [{"name": "one", "model": "chat", "prompt": "{{ input.text }}", "max_tokens": 10}]
    fee = {"meter": "REQUESTS", "credits": "1"}
    prices = [fee, fee | {"when": {"temperature": 1}}]
    values["models"]["both"] = {"name": "Both", "modality": "TEXT", "chain": {"steps": steps}, "prices": prices}
    found = [finding for finding in check(file_of(values)) if finding.is_error]
    assert [(finding.path, "its steps' models may" in finding.message) for finding in found] == [
        ("models.both.prices", True)
    ]


def test_two_prices_that_only_the_dearer_decides_between_are_a_warning_until_one_names_both():
    big = {"meter": "IMAGES", "credits": "3", "when": {"size": "1792x1024"}}
    [finding] = check(file_of(with_prices(HD, big)))
    assert (finding.path, finding.is_error) == ("models.image.prices[2].when", False)
    assert "prices[1], with as many conditions: the dearer one counts" in finding.message
    both = {"meter": "IMAGES", "credits": "6", "when": HD["when"] | big["when"]}
    assert check(file_of(with_prices(HD, big, both))) == ()


def test_a_condition_by_the_providers_name_of_a_renamed_field_is_a_warning():
    def found(rename: dict, field: str) -> list[str]:
        values = with_prices(HD | {"when": {field: "4k"}})
        values["providers"]["prints"] = {
            "kind": "prediction", "base_url": "http://127.0.0.1:9", "api_key_env": "K", "prediction": {"rename": rename}
        }  # fmt: skip
        values["models"]["image"]["routes"] = [{"provider": "prints", "upstream_model": "x"}]
        return [finding.message for finding in check(file_of(values)) if finding.path.endswith(".when")]

    message = "no request has this price here: the provider's 'Res' is 'resolution' of a request"
    assert found({"resolution": "res"}, "Res") == [message]
    assert found({"resolution": "res"}, "resolution") == []
    assert found({"resolution": "size", "size": "scale"}, "size") == []


def test_a_part_that_keeps_its_price_where_the_whole_has_another_is_a_warning():
    fast = {"meter": "INPUT_TOKENS", "credits": "9", "per": 1000, "when": {"speed": "fast"}}
    written = {"meter": "CACHE_WRITE_INPUT_TOKENS", "credits": "2", "per": 1000}
    assert check(file_of(with_prices(fast, slug="chat"))) == ()  # a part without prices of its own costs as the whole
    [finding] = check(file_of(with_prices(fast, written, slug="chat")))
    assert finding.path.startswith("models.chat.prices[")
    assert (finding.path.endswith("].when"), finding.is_error) == (True, False)
    assert finding.message.startswith("CACHE_WRITE_INPUT_TOKENS, a part of INPUT_TOKENS, have no price under these")
    dearer = written | {"credits": "12", "when": fast["when"]}
    assert check(file_of(with_prices(fast, written, dearer, slug="chat"))) == ()


def test_cached_input_is_compared_with_input_by_their_ordinary_prices():
    fast = {"meter": "INPUT_TOKENS", "credits": "9", "per": 1000, "when": {"speed": "fast"}}
    cached = {"meter": "CACHED_INPUT_TOKENS", "credits": "2", "per": 1000}
    for more in ([fast, cached], [cached, fast]):
        found = check(file_of(with_prices(*more, slug="chat")))
        [finding] = [each for each in found if not each.path.endswith(".when")]
        assert finding.message == "cached input costs more than input that is not cached"


async def test_conditions_are_stored_and_the_same_file_again_changes_nothing(database, pg):
    file = file_of(with_prices(HD))
    await apply(database, file, now=NOW)
    assert not (await apply(database, file_of(with_prices(HD)), now=LATER)).changed
    in_capitals = await plan_changes(database, file_of(with_prices(HD | {"when": {"quality": ["HD"]}})))
    assert not any(line.subject == "model image" for line in in_capitals.lines)
    model = (await load_snapshot(database)).models_by_slug["image"]
    assert [(price.credits_micro, price.when) for price in model.prices] == [
        (2_000_000, ()),
        (4_000_000, conditions_of({"quality": ["hd"]})),
    ]
    assert model.price_list.is_conditional
    assert not (await load_snapshot(database)).models_by_slug["chat"].price_list.is_conditional
    assert await pg.fetchval("SELECT conditions FROM model_prices WHERE conditions <> '{}'") == '{"quality": ["hd"]}'


async def test_other_conditions_are_told_and_retire_the_meters_prices(database, pg):
    await apply(database, file_of(with_prices(HD)), now=NOW)
    change = await apply(database, file_of(with_prices(HD | {"when": {"quality": ["hd", "high"]}})), now=LATER)
    words = render_change(change)
    assert "IMAGES: 4 credits for 1 IMAGES where quality is hd → no price" in words
    assert "IMAGES: no price → 4 credits for 1 IMAGES where quality is hd or high" in words
    model = (await load_snapshot(database)).models_by_slug["image"]
    assert [len(price.when) for price in model.prices] == [0, 1]
    assert await pg.fetchval("SELECT count(*) FROM model_prices WHERE retired_at = $1 AND meter = 'IMAGES'", LATER) == 2
    gone = await apply(database, file_of(small()), now=LATER + timedelta(days=1))
    assert "where quality is hd or high → no price" in render_change(gone)


def test_conditions_are_shown_where_a_catalog_has_any():
    assert "where" not in render_catalog(file_of(small()))
    assert "quality is hd and size is 1024x1792 or 1792x1024" in render_catalog(shipped("creator-tiers"))
    assert "errors 0, warnings 0" in render_check(shipped("creator-tiers"), check(shipped("creator-tiers")))


def priced_by_cost(cost: str = "0.036"):
    values = with_prices(HD | {"cost": cost})
    values["models"]["image"]["prices"][0]["cost"] = "0.01"
    return file_of(values)


def test_each_price_has_the_margin_over_its_own_cost():
    file = priced_by_cost()
    ordinary, dearer = [margin for margin in margins_of(file, file.settings.costs) if margin.slug == "image"]
    assert (ordinary.cost_usd, dearer.cost_usd) == (Fraction("0.01"), Fraction("0.036"))
    assert (dearer.revenue_usd, dearer.is_loss) == (Fraction("0.036"), False)
    assert "IMAGES where quality is hd" in render_margins(file, margins_of(file, file.settings.costs))


async def test_a_conditional_price_under_its_cost_is_a_warning_that_says_which_and_is_kept(database):
    [finding] = check(priced_by_cost("0.037"))
    assert (finding.path, finding.is_error) == ("models.image.prices[1].cost", False)
    assert finding.message.startswith("IMAGES where quality is hd is sold under cost on 'pro'")
    await apply(database, priced_by_cost(), now=NOW)
    assert (await load_snapshot(database)).settings.costs == priced_by_cost().settings.costs
    assert not (await plan_changes(database, priced_by_cost())).changed


def test_a_file_of_costs_says_which_price_it_means():
    head = "model,meter,usd,when\n"
    [cost] = read_costs(head + 'image,IMAGES,0.5,"{""Quality"": ""HD"", ""size"": [""a"", ""b""]}"\n')
    assert cost.when == conditions_of({"Quality": ["hd"], "size": ["a", "b"]})
    assert read_costs(head + "image,IMAGES,0.5,\n")[0].when == ()
    for wrong in ("hd", '"[1]"', "{"):
        with pytest.raises(CostsError):
            read_costs(f"{head}image,IMAGES,0.5,{wrong}\n")


def test_the_margin_of_a_shipped_catalogs_dearest_picture_is_that_over_its_own_cost():
    result = CliRunner().invoke(cli, ["catalog", "margin", "catalogs/team-workspaces.toml"])
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.output.splitlines() if "quality is hd and size" in line]
    assert "0.12" in line
    assert "0.15 (20.0 %)" in line
