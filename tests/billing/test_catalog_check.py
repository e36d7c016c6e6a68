"""Contradictions that `tollgate catalog check` finds."""

import pytest

from billing.catalog_check import MAX_FINDINGS, check, errors_of
from billing.catalog_text import render_check
from tests.billing.catalog_samples import SHIPPED, file_of, shipped, small


def findings(change) -> list[tuple[str, str]]:
    values = small()
    change(values)
    return [("error" if finding.is_error else "warning", finding.path) for finding in check(file_of(values))]


def test_the_sample_has_no_contradiction():
    assert findings(lambda values: None) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_each_shipped_catalog_passes_without_a_warning(name):
    assert check(shipped(name)) == ()


@pytest.mark.parametrize(
    ("change", "kind", "path"),
    [
        (lambda v: v.update(default_plan="fre"), "error", "default_plan"),
        (lambda v: v.update(default_plan="pro"), "error", "default_plan"),
        (lambda v: v["plans"]["pro"].update(public=False), "error", "plans.pro"),
        (lambda v: v["plans"]["pro"].pop("prices"), "error", "plans.pro"),
        (lambda v: v["plans"]["pro"]["entitlements"].update(credit_packs=False), "error", "packs"),
        (lambda v: v["plans"]["pro"]["prices"][1].update(amount="240.01"), "error", "plans.pro.prices[1].amount"),
        (lambda v: v["plans"]["pro"].update(models=["TEXT"]), "error", "models.image"),
        (lambda v: v["plans"]["pro"].update(models=["*", "imagge"]), "error", "plans.pro.models[1]"),
        (lambda v: v["plans"]["pro"].update(discounts={"IMAGE": 11}), "error", "plans.pro.discounts.IMAGE"),
        (lambda v: v["plans"]["pro"].update(discounts={"VIDEO": 1}), "error", "plans.pro.discounts.VIDEO"),
        (
            lambda v: v["plans"]["pro"].pop("discounts"),
            "error",
            "plans.pro.entitlements.compute_discount_percent",
        ),
        (
            lambda v: v["plans"]["pro"]["entitlements"].update(monetization=True),
            "error",
            "plans.pro.entitlements.monetization",
        ),
        (lambda v: v.update(publishing={"share_percent": 70}), "error", "publishing"),
        (lambda v: v.update(transfers={"min": "1", "max": "2"}), "error", "transfers"),
        (lambda v: v.pop("top_up") and v.update(auto_recharge=RECHARGE), "error", "auto_recharge"),
        (lambda v: v["models"]["chat"].update(routes=[]), "error", "models.chat.routes"),
        (
            lambda v: v["models"]["chat"]["routes"][0].update(provider="sandbx"),
            "error",
            "models.chat.routes[0].provider",
        ),
        (
            lambda v: v["models"]["chat"]["routes"][0].update(responses_only=True),
            "error",
            "models.chat.routes[0].responses_only",
        ),
        (
            lambda v: (
                v["providers"]["sandbox"].update(responses=True),
                v["models"]["image"]["routes"][0].update(responses_only=True),
            ),
            "error",
            "models.image.routes[0].responses_only",
        ),
        (lambda v: v["models"]["chat"].update(prices=[]), "error", "models.chat.prices"),
        (lambda v: v["models"]["chat"]["prices"].pop(1), "warning", "models.chat.prices"),
        (
            lambda v: v["models"]["chat"]["prices"].append({"meter": "SECONDS", "credits": "1"}),
            "error",
            "models.chat.prices[2].meter",
        ),
        (
            lambda v: v["models"]["image"]["prices"].append({"meter": "CACHED_INPUT_TOKENS", "credits": "1"}),
            "error",
            "models.image.prices",
        ),
        (
            lambda v: v["models"]["image"]["prices"].append({"meter": "CACHE_WRITE_INPUT_TOKENS", "credits": "1"}),
            "error",
            "models.image.prices[1].meter",
        ),
        (
            lambda v: v["models"]["chat"].update(
                prices=[
                    {"meter": "LONG_CACHE_WRITE_INPUT_TOKENS", "credits": "1"},
                    {"meter": "OUTPUT_TOKENS", "credits": "1"},
                ]
            ),
            "error",
            "models.chat.prices",
        ),
        (lambda v: v["models"]["chat"].pop("max_output_tokens"), "error", "models.chat.max_output_tokens"),
        (lambda v: v["models"]["image"].pop("max_images"), "error", "models.image.max_images"),
        (lambda v: v["providers"].update(far={"kind": "openai_compatible"}), "error", "providers.far.base_url"),
        (lambda v: v["providers"].update(far={"kind": "sandbox"}), "warning", "providers.far"),
        (
            lambda v: v.update(retired={"plans": {"pro": {"renewal": "KEEP"}}}),
            "error",
            "retired.plans.pro",
        ),
        (
            lambda v: v.update(retired={"prices": {"pro.old": {"renewal": "SUCCESSOR", "successor": "pro.monthy"}}}),
            "error",
            'retired.prices."pro.old".successor',
        ),
    ],
)
def test_a_contradiction_is_found_at_its_path(change, kind, path):
    assert (kind, path) in findings(change)


RECHARGE = {
    "min_threshold": "0",
    "max_threshold": "10",
    "min_amount": "5",
    "max_amount": "10",
    "max_monthly": "100",
}


@pytest.mark.parametrize(
    ("written", "long", "cheap"),
    [
        (None, None, ["CACHE_WRITE_INPUT_TOKENS", "LONG_CACHE_WRITE_INPUT_TOKENS"]),
        ("2", None, ["CACHE_WRITE_INPUT_TOKENS", "LONG_CACHE_WRITE_INPUT_TOKENS"]),
        ("1", "4", ["CACHE_WRITE_INPUT_TOKENS"]),
        ("2.5", None, []),  # the longer life costs as much
        ("2.5", "1", ["LONG_CACHE_WRITE_INPUT_TOKENS"]),
        ("2.5", "4", []),
        (None, "4", ["CACHE_WRITE_INPUT_TOKENS"]),
    ],
)
def test_a_model_of_anthropics_whose_cache_writes_cost_no_more_than_input_is_a_warning(written, long, cheap):
    def change(values, kind="anthropic"):
        values["providers"]["far"] = {"kind": kind, "base_url": "https://far.example", "api_key_env": "FAR_KEY"}
        model = values["models"]["chat"]
        model["routes"].append({"provider": "far", "upstream_model": "claude", "order": 1})
        model["prices"] = [{"meter": "INPUT_TOKENS", "credits": "2"}, {"meter": "OUTPUT_TOKENS", "credits": "9"}]
        for meter, price in (("CACHE_WRITE_INPUT_TOKENS", written), ("LONG_CACHE_WRITE_INPUT_TOKENS", long)):
            if price is not None:
                model["prices"].append({"meter": meter, "credits": price})

    values = small()
    change(values)
    found = [finding for finding in check(file_of(values)) if "Anthropic" in finding.message]
    assert [(finding.path, finding.is_error) for finding in found] == [("models.chat.prices", False)] * len(cheap)
    assert [finding.message.split(" ", 1)[0] for finding in found] == cheap
    values = small()
    change(values, "openai_compatible")
    assert not [finding for finding in check(file_of(values)) if "Anthropic" in finding.message]


def test_a_catalog_without_any_way_to_get_credits_is_an_error():
    def change(values):
        del values["top_up"], values["packs"], values["promo"]
        del values["plans"]["free"]["prices"][0]["credits"], values["plans"]["pro"]["prices"][0]["credits"]

    assert ("error", "") in findings(change)


def test_errors_stand_first_and_are_printed_with_file_and_key():
    values = small()
    values["providers"]["far"] = {"kind": "sandbox"}
    values["default_plan"] = "pr"
    file = file_of(values)
    found = check(file)
    assert [finding.is_error for finding in found] == [True, False]
    assert errors_of(file, found) == ("catalogs/small.toml: default_plan: there is no plan 'pr'; did you mean 'pro'?",)
    assert render_check(file, found).splitlines()[-1] == (
        "catalogs/small.toml: plans 2, models 2, packs 1; errors 1, warnings 1"
    )


def test_an_error_is_found_behind_any_number_of_warnings_and_errors_end_somewhere():
    values = small()
    values["providers"] |= {f"p{number}": {"kind": "sandbox"} for number in range(150)}
    for number in range(300):
        values["models"][f"m{number}"] = values["models"]["chat"] | {"max_output_tokens": 2000}
    values["retired"] = {"plans": {"pro": {"renewal": "KEEP"}}}
    found = check(file_of(values))
    assert [finding.path for finding in found if finding.is_error] == ["retired.plans.pro"]
    assert len(found) == 1 + MAX_FINDINGS
    values["plans"]["pro"]["models"] = ["TEXT", *(f"none{number}" for number in range(300))]
    assert sum(finding.is_error for finding in check(file_of(values))) == MAX_FINDINGS
