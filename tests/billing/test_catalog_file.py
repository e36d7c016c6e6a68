"""What the reader of catalog files takes, and how it says no."""

import pytest

from billing.catalog_check import check
from billing.catalog_file import MAX_FILE_BYTES, parse_catalog, read_catalog
from billing.catalog_reader import MAX_PROBLEMS
from billing.errors import CatalogErrors
from models.enums import GrantCadence, Meter, PricePeriod
from tests.billing.catalog_samples import SMALL, file_of, small, small_file


def problems_of(values: dict) -> tuple[str, ...]:
    with pytest.raises(CatalogErrors) as caught:
        file_of(values)
    return caught.value.problems


def test_amounts_are_read_as_exact_micro_units():
    file = small_file()
    price = file.plans["pro"].prices[0]
    assert (price.amount_usd_micro, price.period) == (20_000_000, PricePeriod.MONTH)
    assert (price.credits_micro, price.cadence, price.rollover_cap_micro) == (
        500_000_000,
        GrantCadence.BILLING_PERIOD,
        1_000_000_000,
    )
    assert file.packs["small"].price_usd_micro == 1_500_000


def test_a_model_price_in_dollars_becomes_credits_at_the_catalogs_rate():
    output = small_file().models["chat"].prices[1]
    assert (output.meter, output.credits_micro, output.per) == (Meter.OUTPUT_TOKENS, 2_000_000, 1000)


def test_a_dollar_price_that_is_no_whole_micro_credit_is_refused():
    values = small()
    values["credits_per_usd"] = "0.5"
    values["models"]["chat"]["prices"][1]["usd"] = "0.000001"
    (problem,) = problems_of(values)
    assert problem.startswith("catalogs/small.toml: models.chat.prices[1].usd: in credits: ")


def test_an_unknown_value_is_answered_with_the_values_expected():
    values = small()
    values["plans"]["pro"]["prices"][1]["period"] = "weekly"
    (problem,) = problems_of(values)
    assert problem == (
        "catalogs/small.toml: plans.pro.prices[1].period: unknown value 'weekly', "
        "expected one of FREE, DAYS_30, MONTH, YEAR, LIFETIME"
    )


def test_a_float_amount_is_refused_with_the_reason():
    values = small()
    values["packs"]["small"]["price"] = 1.5
    (problem,) = problems_of(values)
    assert problem == (
        "catalogs/small.toml: packs.small.price: a float is not exact: "
        'write the amount as a text, such as "12.5", not 1.5'
    )


def test_a_bare_number_as_amount_is_answered_with_the_quoted_form():
    values = small()
    values["packs"]["small"]["price"] = 15
    (problem,) = problems_of(values)
    assert 'such as "15", found 15' in problem


@pytest.mark.parametrize(
    "text", ["", "-1", "0", "1e5", "NaN", "Infinity", "1,5", " 1", "1_000", "0.0000001", "9" * 19, "٣"]
)
def test_amount_texts_that_are_no_plain_positive_decimal_are_refused(text):
    values = small()
    values["packs"]["small"]["price"] = text
    (problem,) = problems_of(values)
    assert problem.startswith("catalogs/small.toml: packs.small.price: ")


def test_an_unknown_key_is_an_error_with_the_key_that_was_meant():
    values = small()
    values["plans"]["pro"]["entitlements"]["api_acces"] = True
    assert problems_of(values) == (
        "catalogs/small.toml: plans.pro.entitlements.api_acces: unknown key; did you mean 'api_access'?",
    )


def test_all_problems_are_reported_at_once():
    values = small()
    del values["name"]
    values["credits_per_usd"] = 100
    values["plans"]["pro"]["rank"] = -1
    values["plans"]["free"]["entitlements"]["requests_per_hour"] = True
    values["models"]["chat"]["modality"] = "SMELL"
    values["providers"]["sandbox"]["base_url"] = "ftp://x"
    found = problems_of(values)
    for place in ("name", "credits_per_usd", "plans.pro.rank", "requests_per_hour", "models.chat.modality", "base_url"):
        assert any(f"{place}: " in problem for problem in found), place


def test_problems_without_end_are_counted_and_cut():
    values = small()
    values["plans"]["pro"] |= {f"key{number}": 1 for number in range(MAX_PROBLEMS + 50)}
    found = problems_of(values)
    assert len(found) == MAX_PROBLEMS + 1
    assert found[-1].endswith("and 50 more, past the first 200")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda v: v["plans"]["free"]["prices"][0].update(amount="1"), "plans.free.prices[0].amount"),
        (lambda v: v["plans"]["pro"]["prices"][0].update(amount="0"), "plans.pro.prices[0].amount"),
        (lambda v: v["plans"]["free"]["prices"][0].update(trial_days=3), "plans.free.prices[0].trial_days"),
        (lambda v: v["plans"]["pro"]["prices"][1].update(code="monthly"), "plans.pro.prices[1].code"),
        (lambda v: v["plans"]["pro"]["prices"][0]["credits"].update(rollover=False), "prices[0].credits.rollover_cap"),
        (lambda v: v["plans"]["pro"]["prices"][0]["credits"].update(cadence="ONCE"), "prices[0].credits.rollover"),
        (
            lambda v: v["plans"]["free"]["prices"][0]["credits"].update(cadence="BILLING_PERIOD"),
            "plans.free.prices[0].credits.cadence",
        ),
        (lambda v: v["plans"]["pro"].update(workspace="ws_x", public=False), "plans.pro.workspace"),
        (lambda v: v["plans"].update({"Pro!": {}}), 'plans."Pro!"'),
        (lambda v: v["models"].update({"A\n\x1b[0m": {}}), 'models."A\\n\\x1b[0m"'),
        (lambda v: v["models"]["chat"]["prices"].append({"meter": "IMAGES"}), "models.chat.prices[2].credits"),
        (lambda v: v["models"]["chat"]["prices"][0].update(usd="1"), "models.chat.prices[0].usd"),
        (
            lambda v: v["models"]["chat"]["prices"].append({"meter": "INPUT_TOKENS", "credits": "1"}),
            "models.chat.prices[2].meter",
        ),
        (lambda v: v["models"]["chat"].update(bytes_per_token=0), "models.chat.bytes_per_token"),
        (lambda v: v["providers"]["sandbox"].update(api_key_env="sk-123"), "providers.sandbox.api_key_env"),
        (lambda v: v["providers"]["sandbox"].update(base_url="https://u:p@x/"), "providers.sandbox.base_url"),
        (lambda v: v["top_up"].update(max="1"), "top_up.max"),
        (lambda v: v["top_up"]["bonus"].append({"from": "50", "percent": 9}), "top_up.bonus"),
        (lambda v: v["promo"]["welcome"].update(code="SECRET"), "promo.welcome.code"),
        (lambda v: v["promo"]["welcome"].update(bonus_percent=5), "promo.welcome.credits"),
        (lambda v: v["promo"]["welcome"].update(code_digest="ab"), "promo.welcome.code_digest"),
        (lambda v: v["promo"]["welcome"].update(starts_at="2030-01-01"), "promo.welcome.starts_at"),
        (lambda v: v.update(burn_order=["CYCLE", "PACK"]), "burn_order"),
        (lambda v: v.update(burn_order=["CYCLE", "CYCLE"]), "burn_order[1]"),
        (lambda v: v.update(retired={"plans": {"old": {"renewal": "SUCCESSOR"}}}), "retired.plans.old.successor"),
        (lambda v: v.update(name="zero\x00"), "name"),
        (lambda v: v.update(plans=[]), "plans"),
        (lambda v: v["plans"].update(free="x"), "plans.free"),
    ],
)
def test_a_term_that_cannot_be_is_refused_at_its_path(change, place):
    values = small()
    change(values)
    assert any(f"{place}: " in problem for problem in problems_of(values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\ncredits = = 1\n', "line 2, column 11"),
        ('name = "x\n', "line 1, column 10"),
        ("a = [1,\n", "line 2"),
        ("a = " + "9" * 5000, "this is not TOML"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("a = 1\na = 2\n", "line 2"),
    ],
)
def test_a_toml_error_names_file_and_line(text, words):
    with pytest.raises(CatalogErrors) as caught:
        parse_catalog(text, "catalogs/x.toml")
    (problem,) = caught.value.problems
    assert problem.startswith("catalogs/x.toml: ")
    assert words in problem


def test_a_file_that_is_missing_too_large_or_not_text_is_refused(tmp_path):
    binary, large = tmp_path / "binary.toml", tmp_path / "large.toml"
    binary.write_bytes(b'name = "x"\nb = "\xff"\n')
    large.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    for path, words in (
        (tmp_path / "none.toml", "No such file"),
        (binary, "line 2: this is not UTF-8"),
        (large, "4 MB"),
    ):
        with pytest.raises(CatalogErrors, match=words):
            read_catalog(path)


def test_the_digest_follows_the_text():
    assert small_file().digest == small_file().digest
    assert small_file().digest != parse_catalog(SMALL + "# a word\n", "x").digest


def test_only_a_provider_of_chats_in_openais_form_can_speak_the_responses_api():
    values = small()
    name = next(iter(values["providers"]))
    for kind, fits in (("openai_compatible", True), ("sandbox", True), ("anthropic", False), ("prediction", False)):
        values["providers"][name] = {"kind": kind, "base_url": "https://x.example", "responses": True}
        if fits:
            assert file_of(values).settings.providers[0].responses is True
        else:
            (problem,) = problems_of(values)
            assert problem.endswith(f"providers.{name}.responses: a provider of the kind {kind} has no Responses API")


def test_a_route_says_that_a_model_speaks_the_responses_api_only():
    values = small()
    values["providers"]["sandbox"]["responses"] = True
    assert file_of(values).models["chat"].routes[0].responses_only is False
    values["models"]["chat"]["routes"][0]["responses_only"] = True
    assert file_of(values).models["chat"].routes[0].responses_only is True
    assert check(file_of(values)) == ()
    values["models"]["chat"]["routes"][0]["responses_only"] = "yes"
    assert problems_of(values) == (
        "catalogs/small.toml: models.chat.routes[0].responses_only: expected true or false, found 'yes'",
    )
