"""Decides whether a catalog file may replace the one that is applied."""

from uuid import UUID

from billing.catalog_settings import Renewal
from billing.catalog_terms import CatalogFile, StoredCatalog
from billing.rules.catalog_difference import PromoStep


def refusals(
    stored: StoredCatalog, file: CatalogFile, promos: tuple[PromoStep, ...], *, may_revalue: bool
) -> tuple[str, ...]:
    """Every reason why not, a sentence each. `may_revalue`: the operator accepts that balances change their worth."""
    return (
        *_rate(stored, file, may_revalue=may_revalue),
        *_strandings(stored, file),
        *_collisions(stored, file, promos),
    )


def _rate(stored: StoredCatalog, file: CatalogFile, *, may_revalue: bool) -> list[str]:
    if stored.number == 0 or stored.credits_per_usd == file.credits_per_usd or not stored.has_credits or may_revalue:
        return []
    before, after = stored.credits_per_usd.normalize(), file.credits_per_usd.normalize()
    change = f"credits_per_usd goes from {before:f} to {after:f} while wallets hold credits"
    return [f"{change}: it would change what every customer's balance is worth"]


def _strandings(stored: StoredCatalog, file: CatalogFile) -> list[str]:
    reasons: list[str] = []
    for item in stored.renewing:
        name = f"{item.plan_code}.{item.price_code}"
        reason = (
            None
            if _is_custom_and_kept(stored, file, item.plan_code)
            else _stranded(file, item.plan_code, item.price_code)
        )
        if reason is not None:
            reasons.append(f"{name}: {item.subscriptions} running subscriptions renew onto it, but {reason}")
    for code, workspaces in stored.assigned.items():
        named = code in file.plans or code in file.settings.retired_plans
        if not named and not _is_custom_and_kept(stored, file, code):
            reasons.append(
                f"plans.{code}: {workspaces} workspaces have it as their own plan, but the file has it no more: "
                f"keep it, or say under [retired.plans.{code}] what becomes of them"
            )
    return reasons


def _is_custom_and_kept(stored: StoredCatalog, file: CatalogFile, code: str) -> bool:
    plan = stored.plans.get(code)
    return plan is not None and plan.terms.workspace_id is not None and code not in file.plans


def _stranded(file: CatalogFile, plan_code: str, price_code: str) -> str | None:
    name = f"{plan_code}.{price_code}"
    plan = file.plans.get(plan_code)
    if plan is not None and any(price.code == price_code for price in plan.prices):
        return None
    if name in file.settings.retired_prices:
        return None
    if plan is not None:
        return f'the plan has no such price any more: say under [retired.prices."{name}"] what becomes of them'
    retirement = file.settings.retired_plans.get(plan_code)
    if retirement is None:
        return f"the file has no such plan any more: say under [retired.plans.{plan_code}] what becomes of them"
    if retirement.renewal is not Renewal.SUCCESSOR:
        return None
    successor = file.plans.get(retirement.successor or "")
    if successor is not None and any(price.code == price_code for price in successor.prices):
        return None
    return (
        f"the successor {retirement.successor} has no price '{price_code}': name one under [retired.prices.\"{name}\"]"
    )


def _collisions(stored: StoredCatalog, file: CatalogFile, promos: tuple[PromoStep, ...]) -> list[str]:
    reasons = [
        f'models."{slug}": a workspace has published a model of this slug'
        for slug in file.models
        if slug in stored.foreign_slugs
    ]
    reasons += [
        f"plans.{plan.code}.workspace: there is no such workspace"
        for plan in file.plans.values()
        if plan.workspace_id is not None and plan.workspace_id not in stored.workspace_ids
    ]
    owners: dict[bytes, str | UUID] = {promo.code_digest: promo.id for promo in stored.promos}
    for step in promos:
        if step.terms is None:
            continue
        owner = owners.setdefault(step.code_digest, step.name)
        if owner != step.name and (step.stored is None or owner != step.stored.id):
            reasons.append(f"promo.{step.name}: another campaign has the same code")
        redeemed = step.stored.redeemed_count if step.stored else 0
        if step.terms.total_limit is not None and step.terms.total_limit < redeemed:
            reasons.append(f"promo.{step.name}.total_limit: it was redeemed {redeemed} times already")
    return reasons
