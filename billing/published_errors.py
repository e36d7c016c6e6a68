"""Refusals about published models."""

from kit.errors import Code, Refusal


class SlugTaken(Refusal):
    """A live model has this name already."""

    code = Code.ALREADY_EXISTS

    def __init__(self, slug: str) -> None:
        """`slug` in full, workspace and model."""
        super().__init__(f"there is a model {slug!r} already", field=["slug"])


class TooManyModels(Refusal):
    """The workspace publishes as many models as its plan allows."""

    code = Code.CONFLICT

    def __init__(self, most: int) -> None:
        """`most` of the plan."""
        super().__init__(f"this plan allows {most} published models; unpublish one first")


class ChargingNotOffered(Refusal):
    """The catalog has no `[publishing]`: published models are free here."""

    code = Code.NOT_IN_PLAN

    def __init__(self) -> None:
        """No facts."""
        super().__init__("charging for published models is not on offer here", field=["prices"])


class StepRefused(Refusal):
    """A chain's step names a model that it cannot use."""

    code = Code.INVALID_INPUT

    def __init__(self, slug: str, why: str) -> None:
        """`why` is the rest of the sentence."""
        super().__init__(f"the model {slug[:100]!r} {why}", field=["chain", "steps"])
