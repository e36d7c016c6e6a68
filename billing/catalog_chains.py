"""Finds what contradicts itself in the chains of a catalog file."""

from collections.abc import Iterator, Mapping

from billing.catalog_reader import meant, shown
from billing.catalog_terms import ModelTerms
from billing.rules.chains import MAX_DEPTH, ChainError, parse_chain

Models = Mapping[str, ModelTerms]


def chain_findings(models: Models, model: ModelTerms, path: str) -> Iterator[tuple[str, str]]:
    """What contradicts itself in a chain, with its place: its steps name models of the file, and none leads back to it."""
    if model.routes:
        yield (f"{path}.routes", "a chain is served by its steps: it has no routes")
    for slug in _models_of(model):
        if slug not in models:
            hint = meant(slug, list(models))
            yield (f"{path}.chain.steps", f"there is no model {shown(slug)} in this file{hint}")
    depth = _depth(models, model, frozenset())
    if depth > MAX_DEPTH:
        yield (f"{path}.chain", f"chains lead through chains, or back, at most {MAX_DEPTH} deep")


def _models_of(model: ModelTerms) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(step.model for step in parse_chain(model.chain).steps))
    except ChainError:  # told by the reader
        return ()


def _depth(models: Models, model: ModelTerms, above: frozenset[str]) -> int:
    if model.slug in above or len(above) > MAX_DEPTH:
        return MAX_DEPTH + 1
    below = [models[slug] for slug in _models_of(model) if slug in models]
    inside = [_depth(models, each, above | {model.slug}) for each in below if each.chain is not None]
    return 1 + max(inside, default=0)
