"""Which plan gives which model, as one table for a page of prices."""

from typing import Self

import strawberry

from resolvers.catalog import PlanModelsView
from schema.cost import sized
from schema.types.catalog import Model, Plan


@strawberry.type(description="What one plan says of one model")
class PlanModelCell:
    """A cell of the table."""

    plan: Plan = strawberry.field(description="The plan")
    included: bool = strawberry.field(description="Whether the plan gives the model")
    discount_percent: int = strawberry.field(description="What the plan takes off the model's prices, in percent")


@strawberry.type(description="A model, and what each plan on offer says of it")
class PlanModelsRow:
    """A row of the table."""

    view: strawberry.Private[PlanModelsView]
    model: Model = strawberry.field(description="The model")

    @strawberry.field(description="One for each plan on offer, by rank: the same in every row", directives=[sized(5)])
    def plans(self) -> list[PlanModelCell]:
        """The cells."""
        return [
            PlanModelCell(plan=Plan.of(plan), included=percent is not None, discount_percent=percent or 0)
            for plan, percent in self.view.cells
        ]

    @classmethod
    def of(cls, view: PlanModelsView) -> Self:
        """The row."""
        return cls(view=view, model=Model.of(view.model))
