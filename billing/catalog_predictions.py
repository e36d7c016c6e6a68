"""Reads how a provider of predictions is spoken to: `[providers.<name>.prediction]`, and gives it back from a stored catalog."""

import re
from collections.abc import Mapping
from typing import Any, Final

from billing.catalog_reader import Section, shown
from providers.prediction_terms import CancelMethod, PredictionMeter, PredictionTerms, WebhookScheme

MAX_STATUSES: Final = 20
MAX_FIELDS: Final = 50
MAX_POLL_S: Final = 3_600

_PATH_FORM: Final = re.compile(r"/[!-~]{0,400}")
_PATH_WORDS: Final = "a path below base_url, such as /predictions/{id}"
_FIELD_FORM: Final = re.compile(r"\.|[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*")
_FIELD_WORDS: Final = "names joined by dots, such as metrics.image_count, or . for the whole body"
_HEADER_FORM: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_HEADER_WORDS: Final = "the name of a header"
_VARIABLE_FORM: Final = re.compile(r"[A-Z][A-Z0-9_]{0,99}")
_VARIABLE_WORDS: Final = "the name of an environment variable, such as EXAMPLE_WEBHOOK_SECRET"
_PLACEHOLDER: Final = re.compile(r"\{([^}]*)\}")


def read_prediction(provider: Section) -> PredictionTerms | None:
    """The table within a provider's; None where it has none."""
    section = provider.table("prediction")
    if section is None:
        return None
    usual = PredictionTerms()
    terms = PredictionTerms(
        create_path=_path(section, "create_path", {"model"}) or usual.create_path,
        poll_path=_path(section, "poll_path", {"id", "model"}) or usual.poll_path,
        cancel_path=_path(section, "cancel_path", {"id", "model"}),
        cancel_method=section.choice("cancel_method", CancelMethod, default=usual.cancel_method),
        content_path=_path(section, "content_path", {"id", "model"}),
        auth_header=section.optional_match("auth_header", _HEADER_FORM, _HEADER_WORDS) or usual.auth_header,
        auth_scheme="" if section.flag("auth_bare", default=False) else _scheme(section, usual.auth_scheme),
        idempotency_header=section.optional_match("idempotency_header", _HEADER_FORM, _HEADER_WORDS),
        model_field=_field(section, "model_field") or usual.model_field,
        input_field=_field(section, "input_field") or usual.input_field,
        webhook_field=_field(section, "webhook_field"),
        rename=section.pairs("rename", most=MAX_FIELDS),
        as_text=section.texts("as_text", most=MAX_FIELDS),
        id_field=_field(section, "id_field") or usual.id_field,
        status_field=_field(section, "status_field") or usual.status_field,
        output_field=_field(section, "output_field") or usual.output_field,
        error_field=_field(section, "error_field") or usual.error_field,
        queued=section.texts("queued", most=MAX_STATUSES) or usual.queued,
        running=section.texts("running", most=MAX_STATUSES) or usual.running,
        succeeded=section.texts("succeeded", most=MAX_STATUSES) or usual.succeeded,
        failed=section.texts("failed", most=MAX_STATUSES) or usual.failed,
        canceled=section.texts("canceled", most=MAX_STATUSES) or usual.canceled,
        usage=_usage(section),
        webhook_secret_env=section.optional_match("webhook_secret_env", _VARIABLE_FORM, _VARIABLE_WORDS),
        webhook_scheme=section.choice("webhook_scheme", WebhookScheme, default=usual.webhook_scheme),
        webhook_signature_header=(
            section.optional_match("webhook_signature_header", _HEADER_FORM, _HEADER_WORDS)
            or usual.webhook_signature_header
        ).lower(),
        first_poll_s=section.integer("first_poll_s", 1, MAX_POLL_S, default=usual.first_poll_s),
        longest_poll_s=section.integer("longest_poll_s", 1, MAX_POLL_S, default=usual.longest_poll_s),
    )
    section.finish()
    return terms


def prediction_of(row: Mapping[str, Any] | None) -> PredictionTerms | None:  # Any: JSON that `asdict` made
    """The terms as a catalog version keeps them."""
    if row is None:
        return None
    usual = PredictionTerms()
    known: dict[str, Any] = {name: row[name] for name in PredictionTerms.__dataclass_fields__ if name in row}
    for name, value in known.items():
        if isinstance(getattr(usual, name), tuple):
            known[name] = tuple(tuple(item) if isinstance(item, list) else item for item in value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- JSON's lists
    known["cancel_method"] = CancelMethod(known.get("cancel_method", usual.cancel_method))
    known["webhook_scheme"] = WebhookScheme(known.get("webhook_scheme", usual.webhook_scheme))
    return PredictionTerms(**known)


def _path(section: Section, key: str, allowed: set[str]) -> str | None:
    path = section.optional_match(key, _PATH_FORM, _PATH_WORDS)
    for name in _PLACEHOLDER.findall(path or ""):
        if name not in allowed:
            section.add(key, f"{{{name}}} means nothing here, expected {' or '.join(sorted(allowed))}")
    return path


def _field(section: Section, key: str) -> str | None:
    return section.optional_match(key, _FIELD_FORM, _FIELD_WORDS)


def _scheme(section: Section, usual: str) -> str:
    scheme = section.optional_match("auth_scheme", re.compile(r"[A-Za-z0-9-]{1,40}"), "a word such as Bearer or Key")
    return scheme or usual


def _usage(section: Section) -> tuple[tuple[str, str], ...]:
    meters = {meter.value for meter in PredictionMeter}
    found = section.pairs("usage", most=len(meters))
    for meter, path in found:
        if meter not in meters:
            section.add(
                "usage", f"{shown(meter)} is no meter of a prediction, expected one of {', '.join(PredictionMeter)}"
            )
        elif not _FIELD_FORM.fullmatch(path):
            section.add("usage", f"{shown(path)} is not of the form expected: {_FIELD_WORDS}")
    return found
