"""Which plan gives which model, as one table over GraphQL, without a query for any of its cells."""

import pytest

from billing.catalog_apply import apply
from kit import clock
from tests.billing.catalog_samples import shipped
from tests.schema.conftest import House
from tests.schema.test_queries_per_list import _counting

TABLE = """query($after: String, $modality: Modality) {
  planModels(first: 5, after: $after, modality: $modality) {
    nodes { model { slug } plans { plan { code } included discountPercent } }
    pageInfo { hasNextPage endCursor } } }"""


async def table(house: House, **variables: object) -> dict[str, list[tuple[str, bool, int]]]:
    rows: dict[str, list[tuple[str, bool, int]]] = {}
    after = None
    while True:
        page = (await house.read(TABLE, after=after, **variables))["planModels"]
        for row in page["nodes"]:
            cells = [(cell["plan"]["code"], cell["included"], cell["discountPercent"]) for cell in row["plans"]]
            rows[row["model"]["slug"]] = cells
        if not page["pageInfo"]["hasNextPage"]:
            return rows
        after = page["pageInfo"]["endCursor"]


async def sell(house: House, name: str) -> None:
    database = house.services.database
    await apply(database, shipped(name), now=clock.now(), may_revalue=True)
    await house.services.catalog.reload()


@pytest.mark.parametrize("name", ["creator-tiers", "usd-balance", "team-workspaces", "pay-as-you-go"])
async def test_C4_the_table_over_graphql_is_the_catalogs(house: House, name: str) -> None:
    await sell(house, name)
    file = shipped(name)
    plans = sorted((plan for plan in file.plans.values() if plan.public), key=lambda plan: plan.rank)
    wanted = {
        model.slug: [
            (
                plan.code,
                plan.access.allows(model.slug, model.modality, model.tier),
                plan.access.discount_percent(model.slug, model.modality, model.tier)
                if plan.access.allows(model.slug, model.modality, model.tier)
                else 0,
            )
            for plan in plans
        ]
        for model in file.models.values()
        if model.enabled
    }
    assert await table(house) == wanted


async def test_C4_the_table_can_be_narrowed_to_a_modality(house: House) -> None:
    await sell(house, "creator-tiers")
    assert set(await table(house, modality="VIDEO")) == {"sandbox-video", "sandbox-video-long", "sora-2"}


async def test_the_table_and_the_lists_of_plans_and_models_ask_the_database_nothing(house: House) -> None:
    documents = (
        "{ planModels(first: 100) { nodes { model { slug prices { usd } } plans { plan { code } included } } } }",
        "{ plans { code models(first: 100) { nodes { slug plans { code } } } } }",
        "{ models(first: 100) { nodes { slug plans { code entitlements { apiAccess } prices { amount } } } } }",
    )
    async with _counting(house) as statements:
        for document in documents:
            await house.read(document)
    assert statements == []
