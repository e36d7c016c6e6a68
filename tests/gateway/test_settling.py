"""What a settlement says of its call, so that one that comes late is recorded as what it was."""

import pytest

from metering.operations import Settle
from tests.gateway.conftest import Gate, chat


@pytest.mark.parametrize(
    ("path", "body", "modality"),
    [
        ("/v1/chat/completions", chat(), "TEXT"),
        ("/v1/chat/completions", chat(stream=True), "TEXT"),
        ("/v1/embeddings", {"model": "sandbox-embedding", "input": "one"}, "EMBEDDING"),
        ("/v1/images/generations", {"model": "sandbox-image", "prompt": "a gate"}, "IMAGE"),
    ],
    ids=["chat", "stream", "embedding", "image"],
)
async def test_a_settlement_names_its_modality(
    gate: Gate, path: str, body: dict, modality: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled, submit = [], gate.services.ledger.submit

    async def seen(operation, *more):
        settled.extend([operation.modality] if isinstance(operation, Settle) else [])
        return await submit(operation, *more)

    monkeypatch.setattr(gate.services.ledger, "submit", seen)
    assert (await gate.ask(body, path=path)).status == 200
    assert settled == [modality]
