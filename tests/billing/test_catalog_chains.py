"""Chains in a catalog file: read with their places, checked against the file's models, stored and loaded unchanged."""

from datetime import UTC, datetime

import pytest

from billing.catalog import load_snapshot
from billing.catalog_apply import apply
from billing.catalog_check import check
from billing.errors import CatalogErrors
from billing.rules.chains import MAX_DEPTH, parse_chain
from models.database import Database
from tests.billing.catalog_samples import file_of, small


def with_chain(*models: tuple[str, dict]) -> dict:
    values = small()
    for slug, chain in models:
        values["models"][slug] = {"name": slug, "modality": "TEXT", "chain": chain}
    return values


def steps(*models: str) -> dict:
    return {"steps": [{"name": "one", "model": models[0]}, *({"name": f"s{n}", "model": m, "prompt": "{{ steps.one.content }}"} for n, m in enumerate(models[1:]))]}  # fmt: skip


def text_model() -> str:
    return next(slug for slug, model in small()["models"].items() if model["modality"] == "TEXT")


def test_B14_a_chain_needs_no_routes_and_no_price_of_its_own() -> None:
    assert check(file_of(with_chain(("chain", steps(text_model(), text_model()))))) == ()


@pytest.mark.parametrize(
    ("chain", "path"),
    [
        ({"steps": []}, "models.chain.chain.steps"),
        (
            {"steps": [{"name": "one", "model": "m", "prompt": "{{ steps.two.content }}"}]},
            "models.chain.chain.steps[0]",
        ),
        ({"steps": [{"name": "one", "model": "m", "promt": ""}]}, "models.chain.chain.steps[0].promt"),
    ],
)
def test_B14_a_chain_that_cannot_run_is_told_with_its_place(chain: dict, path: str) -> None:
    with pytest.raises(CatalogErrors) as refused:
        file_of(with_chain(("chain", chain)))
    assert any(path in problem for problem in refused.value.problems), refused.value.problems


def test_B14_a_chain_names_models_of_the_file_and_never_itself() -> None:
    found = check(file_of(with_chain(("chain", steps("nothing")))))
    assert [finding.path for finding in found if finding.is_error] == ["models.chain.chain.steps"]
    circle = check(file_of(with_chain(("a", steps("b")), ("b", steps("a")))))
    assert {finding.path for finding in circle if finding.is_error} == {"models.a.chain", "models.b.chain"}
    names = [f"c{n}" for n in range(MAX_DEPTH + 1)]
    deep = [(name, steps(below)) for name, below in zip(names, [*names[1:], text_model()], strict=True)]
    assert [finding.path for finding in check(file_of(with_chain(*deep))) if finding.is_error] == ["models.c0.chain"]
    assert check(file_of(with_chain(*deep[1:]))) == ()


async def test_B14_an_applied_chain_is_what_the_file_says_and_applying_it_again_changes_nothing(
    database_url: str,
) -> None:
    database = await Database.open(database_url, max_size=2)
    try:
        chain = {**steps(text_model()), "max_cost": "2.5"}
        values = with_chain(("chain", chain))
        await apply(database, file_of(values), now=datetime.now(UTC))
        snapshot = await load_snapshot(database)
        assert snapshot.models_by_slug["chain"].chain == parse_chain(chain)
        assert not (await apply(database, file_of(values), now=datetime.now(UTC))).changed
        values["models"]["chain"]["chain"]["max_cost"] = "3"
        await apply(database, file_of(values), now=datetime.now(UTC))
        changed = (await load_snapshot(database)).models_by_slug["chain"]
        assert changed.chain is not None
        assert changed.chain.max_cost_micro == 3_000_000
    finally:
        await database.close()
