"""Finds routes of a model that lead nowhere, or to a provider that cannot serve it."""

from collections.abc import Iterator, Mapping
from typing import Final

from billing.catalog_reader import meant, shown
from billing.catalog_settings import ProviderKind, ProviderSpec
from billing.catalog_terms import ModelTerms
from models.enums import Modality

_JOBS_DO: Final = frozenset({Modality.IMAGE, Modality.VIDEO})


def route_findings(providers: Mapping[str, ProviderSpec], model: ModelTerms, path: str) -> Iterator[tuple[str, str]]:
    """What contradicts itself in a model's routes, with its place; `providers` by name."""
    for index, route in enumerate(model.routes):
        place = f"{path}.routes[{index}]"
        provider = providers.get(route.provider)
        if provider is None:
            yield (
                f"{place}.provider",
                f"there is no provider {shown(route.provider)}{meant(route.provider, list(providers))}",
            )
        elif provider.kind is ProviderKind.PREDICTION and model.modality not in _JOBS_DO:
            yield f"{place}.provider", f"{route.provider} makes predictions, which are jobs of images and videos only"
        elif route.responses_only and not provider.responses:
            message = (
                f"{route.provider} does not speak the Responses API: set `responses` of [providers.{route.provider}]"
            )
            yield f"{place}.responses_only", message
        if route.responses_only and model.modality is not Modality.TEXT:
            yield f"{place}.responses_only", f"is for chats, which a model of {model.modality} has none of"
