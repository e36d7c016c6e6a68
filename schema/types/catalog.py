"""What is on offer, as the API shows it: plans with their prices, models and credit packs."""

from typing import Self

import strawberry

from billing.rules.entitlements import Entitlements as EntitlementsView
from billing.views import CreditPolicyView, MeterPriceView, ModelView, PackView, PlanView, PriceView
from kit.ids import encode_id
from kit.money import usd_micro_text, usd_text
from resolvers import catalog
from schema.cost import sized
from schema.enums import BillingPeriod, GrantCadence, Meter, Modality
from schema.federation import BY_ID
from schema.node import Info, Node
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import BigInt, Credits, Usd


@strawberry.type(description="The credits that come with a price")
class CreditPolicy:
    """The contract's CreditPolicy."""

    amount: Credits = strawberry.field(description="How many each time")
    cadence: GrantCadence = strawberry.field(description="How often")
    rollover: bool = strawberry.field(description="Whether what is left is kept when the next come")

    @classmethod
    def of(cls, view: CreditPolicyView) -> Self:
        """The policy."""
        return cls(amount=Credits(view.amount_micro), cadence=view.cadence, rollover=view.rollover)


@strawberry.type(description="What a plan allows")
class Entitlements:
    """The contract's Entitlements."""

    api_access: bool = strawberry.field(description="API keys")
    team_management: bool = strawberry.field(description="Inviting members")
    credit_packs: bool = strawberry.field(description="Buying credit packs")
    monetization: bool = strawberry.field(description="Charging for the use of published models")
    chained_models: bool = strawberry.field(description="Models made of others")
    compute_discount_percent: int = strawberry.field(description="The largest discount on any model, in percent")
    storage_bytes: BigInt | None = strawberry.field(description="Room for assets; null for no limit")
    asset_retention_days: int | None = strawberry.field(description="How long assets are kept; null for ever")
    requests_per_hour: int = strawberry.field(description="The rate limit")
    support_level: str = strawberry.field(description="Which support comes with it")

    @classmethod
    def of(cls, view: EntitlementsView) -> Self:
        """The entitlements."""
        return cls(
            api_access=view.api_access,
            team_management=view.team_management,
            credit_packs=view.credit_packs,
            monetization=view.monetization,
            chained_models=view.chained_models,
            compute_discount_percent=view.compute_discount_percent,
            storage_bytes=None if view.storage_bytes is None else BigInt(view.storage_bytes),
            asset_retention_days=view.asset_retention_days,
            requests_per_hour=view.requests_per_hour,
            support_level=view.support_level,
        )


@strawberry.type(description="What a plan costs for a period")
class Price(Node):
    """The contract's Price."""

    view: strawberry.Private[PriceView]
    amount: Usd = strawberry.field(description="What is charged each period")
    period: BillingPeriod = strawberry.field(description="How long it pays for")
    credits: CreditPolicy | None = strawberry.field(description="The credits that come with it")

    @strawberry.field(description="The plan it belongs to")
    def plan(self, info: Info) -> "Plan":
        """The plan."""
        return Plan.of(catalog.plan_of_price(info.context, self.view))

    @classmethod
    def of(cls, view: PriceView) -> Self:
        """The price."""
        return cls(
            id=strawberry.ID(encode_id("price", view.id)),
            view=view,
            amount=Usd(usd_micro_text(view.amount_usd_micro)),
            period=view.period,
            credits=None if view.credits is None else CreditPolicy.of(view.credits),
        )


@strawberry.type(
    description="A named package: what it allows, what it costs, which models it gives", directives=[BY_ID]
)
class Plan(Node):
    """The contract's Plan."""

    view: strawberry.Private[PlanView]
    code: str = strawberry.field(description="Its name for programs, the same in every version")
    name: str = strawberry.field(description="Its name for people")
    description: str | None = strawberry.field(description="What it is for")

    @strawberry.field(description="What it costs", directives=[sized(5)])
    def prices(self) -> list[Price]:
        """The prices on offer."""
        return [Price.of(price) for price in self.view.prices]

    @strawberry.field(description="What it allows")
    def entitlements(self) -> Entitlements:
        """The entitlements."""
        return Entitlements.of(self.view.entitlements)

    @listed("The models it gives")
    def models(self, info: Info, first: First = 20, after: After = strawberry.UNSET) -> Connection["Model"]:
        """A page of models."""
        page = catalog.models_of_plan(info.context, self.view, first=first, after=after)
        return connection_of(page, Model.of)

    @classmethod
    def of(cls, view: PlanView) -> Self:
        """The plan version."""
        return cls(
            id=strawberry.ID(encode_id("plan", view.id)),
            view=view,
            code=view.code,
            name=view.name,
            description=view.description,
        )


@strawberry.type(description="What a request must say for a price to be its price")
class PriceCondition:
    """A field and its values."""

    field: str = strawberry.field(
        description="The field of the request's body in the REST form, with dots before nested ones, such as `quality`"
    )
    values: list[str] = strawberry.field(
        description="It has one of these values, in any letters; numbers and booleans as texts", directives=[sized(4)]
    )


@strawberry.type(description="What one meter of a model costs")
class ModelPrice:
    """The contract's ModelPrice."""

    view: strawberry.Private[MeterPriceView]
    meter: Meter = strawberry.field(description="What is counted")
    credits: Credits = strawberry.field(description="The price in credits, for `per` units")
    per: BigInt = strawberry.field(description="How many units the price is for")
    when: list[PriceCondition] = strawberry.field(
        description="Which requests have this price: those of which all holds. Empty: those that no other price of the"
        " meter is for. Of several the one with most conditions counts, then the dearest; a value that leaves the choice to"
        " the provider, such as `auto`, counts as every value",
        directives=[sized(2)],
    )

    @strawberry.field(description="The price in dollars, for `per` units")
    def usd(self, info: Info) -> Usd:
        """The price at the catalog's rate."""
        return Usd(usd_text(self.view.credits_micro, catalog.credits_per_usd(info.context)))

    @classmethod
    def of(cls, view: MeterPriceView) -> Self:
        """The price of a meter."""
        return cls(
            view=view,
            meter=view.meter,
            credits=Credits(view.credits_micro),
            per=BigInt(view.per),
            when=[PriceCondition(field=each.field, values=list(each.values)) for each in view.when],
        )


@strawberry.type(description="The workspace that publishes a model")
class Publisher:
    """What everybody may know of a publisher."""

    slug: str = strawberry.field(description="The workspace's name in addresses")
    name: str = strawberry.field(description="The workspace's name for people")


@strawberry.type(description="A model that can be called", directives=[BY_ID])
class Model(Node):
    """The contract's Model."""

    view: strawberry.Private[ModelView]
    slug: str = strawberry.field(description="The name by which it is called")
    name: str = strawberry.field(description="Its name for people")
    modality: Modality = strawberry.field(description="What it makes")
    description: str | None = strawberry.field(description="What it is good for")
    context_tokens: int | None = strawberry.field(description="The most tokens that input and output may have together")
    max_output_tokens: int | None = strawberry.field(description="The most tokens of one output")
    publisher: Publisher | None = strawberry.field(description="Who publishes it; null for the catalog's own models")
    path: str | None = strawberry.field(
        description="The page of a published model, below this server's address; null for the catalog's own"
    )

    @strawberry.field(description="What its use costs, before a plan's discount", directives=[sized(4)])
    def prices(self) -> list[ModelPrice]:
        """The prices of its meters."""
        return [ModelPrice.of(price) for price in self.view.prices]

    @strawberry.field(description="The plans that give it", directives=[sized(5)])
    def plans(self, info: Info) -> list[Plan]:
        """The public plans with it."""
        return [Plan.of(plan) for plan in catalog.plans_of_model(info.context, self.view)]

    @classmethod
    def of(cls, view: ModelView) -> Self:
        """The model."""
        return cls(
            id=strawberry.ID(encode_id("model", view.id)),
            view=view,
            slug=view.slug,
            name=view.name,
            modality=view.modality,
            description=view.description,
            context_tokens=view.context_tokens,
            max_output_tokens=view.max_output_tokens,
            publisher=None if view.publisher is None else Publisher(slug=view.publisher.slug, name=view.publisher.name),
            path=None if view.publisher is None else f"/m/{view.slug}",
        )


@strawberry.type(description="Credits that are bought once, on top of a plan")
class CreditPack(Node):
    """The contract's CreditPack."""

    code: str = strawberry.field(description="Its name for programs")
    name: str = strawberry.field(description="Its name for people")
    credits: Credits = strawberry.field(description="How many credits it holds")
    price: Usd = strawberry.field(description="What it costs")
    expires_after_months: int | None = strawberry.field(description="How long the credits live; null for ever")
    requires_active_plan: bool = strawberry.field(description="Whether spending them needs an active subscription")

    @classmethod
    def of(cls, view: PackView) -> Self:
        """The pack."""
        return cls(
            id=strawberry.ID(encode_id("pack", view.id)),
            code=view.code,
            name=view.name,
            credits=Credits(view.credits_micro),
            price=Usd(usd_micro_text(view.price_usd_micro)),
            expires_after_months=view.expires_after_months,
            requires_active_plan=view.requires_active_plan,
        )
