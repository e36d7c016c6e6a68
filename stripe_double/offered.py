"""Refuses what Stripe would take and this double would not honour, so that nothing is silently ignored."""

from stripe_double.errors import invalid
from stripe_double.values import Json


def only_offered(params: Json, *names: str, where: str = "") -> None:
    """ApiError 400 (code double_not_offered) where a parameter is none of these."""
    for name in params:
        if name not in names:
            path = f"{where}[{name}]" if where else name
            raise invalid(f"The double does not offer {path}.", code="double_not_offered", param=path)
