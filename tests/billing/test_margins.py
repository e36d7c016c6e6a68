"""What is left of each price on each plan after the provider is paid, and what is said of a loss."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest
from click.testing import CliRunner

from app.cli import cli
from billing.catalog import load_snapshot
from billing.catalog_apply import apply, plan_changes
from billing.catalog_check import check
from billing.rules.margins import CostsError, cheaper_credits, margins_of, read_costs
from tests.billing.catalog_samples import file_of, shipped, small

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def with_costs(image="0.018", output="0.01"):
    values = small()
    values["models"]["image"]["prices"][0]["cost"] = image
    values["models"]["chat"]["prices"][1]["cost"] = output
    return file_of(values)


def margins(file):
    found = margins_of(file, file.settings.costs)
    return {(margin.slug, margin.meter.value, margin.plan_code): margin for margin in found}


def test_the_revenue_is_the_price_less_the_plans_discount_and_the_margin_is_exact():
    found = margins(with_costs())
    image = found["image", "IMAGES", "pro"]  # 2 credits at 100 to the dollar, less 10 %
    assert (image.revenue_usd, image.cost_usd) == (Fraction("0.018"), Fraction("0.018"))
    assert (image.percent, image.is_loss) == (0, False)
    output = found["chat", "OUTPUT_TOKENS", "free"]
    assert (output.revenue_usd, output.per, output.percent) == (Fraction("0.02"), 1000, 50)
    assert found["chat", "INPUT_TOKENS", "pro"].percent is None  # no cost is known
    assert ("image", "IMAGES", "free") not in found  # the plan does not give it


def test_a_loss_is_a_warning_of_the_check_and_no_error():
    assert check(with_costs()) == ()
    [finding] = check(with_costs(image="0.019"))
    assert (finding.path, finding.is_error) == ("models.image.prices[0].cost", False)
    assert "'pro'" in finding.message
    assert "$0.018 (-10 %) for $0.019" in finding.message


def test_a_price_of_nothing_with_a_cost_is_a_loss_without_a_percentage():
    values = small()
    values["models"]["image"]["prices"][0] = {"meter": "IMAGES", "credits": "0", "cost": "0.01"}
    [margin] = [found for found in margins(file_of(values)).values() if found.slug == "image"]
    assert (margin.percent, margin.is_loss) == (None, True)


def test_credits_that_cost_less_than_the_rate_are_named_the_cheapest_first():
    values = small()
    values["plans"]["pro"]["prices"][0]["credits"]["amount"] = "4000"  # worth $40, for $20
    values["plans"]["pro"]["prices"][1]["credits"] = {"amount": "2500", "cadence": "MONTH"}  # $300 a year, for $200
    values["packs"]["small"]["price"] = "0.90"
    found = [(offer.name, offer.share) for offer in cheaper_credits(file_of(values))]
    assert found == [("pro.monthly", Fraction(1, 2)), ("pro.yearly", Fraction(2, 3)), ("pack small", Fraction(9, 10))]
    assert [offer.name for offer in cheaper_credits(shipped("creator-tiers"))] == ["pro.annual"]
    assert cheaper_credits(shipped("team-workspaces")) == []


async def test_costs_are_kept_with_the_catalog_and_reprice_nothing(database):
    await apply(database, with_costs(), now=NOW)
    before = await load_snapshot(database)
    change = await plan_changes(database, with_costs(output="0.015"))
    assert [(line.mark.value, line.subject) for line in change.lines if line.mark.value != "!"] == [("~", "costs")]
    await apply(database, with_costs(output="0.015"), now=NOW)
    after = await load_snapshot(database)
    assert [(model.id, model.prices) for model in after.models] == [(model.id, model.prices) for model in before.models]
    assert {(cost.slug, cost.usd_micro) for cost in after.settings.costs} == {("image", 18_000), ("chat", 15_000)}
    assert not (await plan_changes(database, with_costs(output="0.015"))).changed


def test_a_file_of_costs_is_read_and_a_bad_line_named():
    [cost] = read_costs("model,meter,usd,per\nchat,OUTPUT_TOKENS,0.5,1_000\n")
    assert (cost.slug, cost.meter, cost.usd_micro, cost.per) == ("chat", "OUTPUT_TOKENS", 500_000, 1000)
    assert read_costs("model,meter,usd\nchat,REQUESTS,1\n")[0].per == 1
    for wrong in ("model,usd\n", "", "model,meter,usd\nchat,WORDS,1\n", "model,meter,usd\nchat,REQUESTS,-1\n",
                  "model,meter,usd,per\nchat,REQUESTS,1,0\n", "model,meter,usd\nchat,REQUESTS,much\n"):  # fmt: skip
        with pytest.raises(CostsError):
            read_costs(wrong)


def margin_command(tmp_path, *lines):
    costs = tmp_path / "costs.csv"
    costs.write_text("\n".join(["model,meter,usd,per", *lines]) + "\n")
    return CliRunner().invoke(cli, ["catalog", "margin", "catalogs/usd-balance.toml", "--costs", str(costs)])


def test_the_command_prints_models_by_plans_and_fails_on_a_loss(tmp_path):
    result = CliRunner().invoke(cli, ["catalog", "margin", "catalogs/team-workspaces.toml"])
    assert result.exit_code == 0, result.output
    assert "12.00 (16.7 %)" in result.output
    assert "no cost is known of: sandbox-chat" in result.output
    loss = margin_command(tmp_path, "gpt-5-mini,OUTPUT_TOKENS,2,1000000", "nothing,IMAGES,1,1")
    assert loss.exit_code == 1
    assert "1.40 (-42.9 %)" in loss.output
    assert "gpt-5-mini: OUTPUT_TOKENS is sold under cost on 'business'" in loss.output
    assert "not in the catalog: nothing" in loss.output


def test_a_file_of_costs_that_cannot_be_read_ends_the_command_in_a_sentence(tmp_path):
    wrong = margin_command(tmp_path, "gpt-5-mini,OUTPUT_TOKENS,dear,1")
    assert wrong.exit_code == 2
    assert "line 2 of the file of costs" in wrong.output
