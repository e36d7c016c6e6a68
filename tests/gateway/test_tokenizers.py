"""A tokenizer installed beside the gateway makes the bound of a call's input narrower, and never too narrow."""

import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import _shape
from gateway.rules.text_tokens import MAX_COUNTED_BYTES, spared_bytes
from gateway.tokenizers import INSTALLED, Tokenizers
from gateway.views import Caller, CallRequest
from kit.errors import InvalidInput
from providers.base import Operation, Upload
from tests.gateway.conftest import EXTRA, Gate, chat

COUNTED = """
[models.counted]
name = "Counted"
modality = "TEXT"
context_tokens = 1_000_000
max_output_tokens = 10
tokenizer = "by-words"
routes = [{ provider = "sandbox", upstream_model = "sandbox-chat" }]
prices = [{ meter = "INPUT_TOKENS", credits = "1" }]
"""
BODIES = {
    Operation.CHAT: {
        "messages": [
            {"role": "user", "name": "ann", "content": "two words"},
            {"role": "user", "content": [{"type": "text", "text": "three more words"}, {"image_url": {"url": "a b"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "not counted"}}],
    },
    Operation.MESSAGES: {
        "system": "be brief",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one two three"}]}],
    },
    Operation.RESPONSES: {"instructions": "be brief", "input": [{"role": "user", "content": "one two three"}]},
    Operation.EMBEDDING: {"input": ["one two", "three"]},
    Operation.SPEECH: {"input": "one two three", "voice": "x"},
}
TEXTS = {
    Operation.CHAT: ["two words", "three more words"],
    Operation.MESSAGES: ["be brief", "one two three"],
    Operation.RESPONSES: ["be brief", "one two three"],
    Operation.EMBEDDING: ["one two", "three"],
    Operation.SPEECH: ["one two three"],
}


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(INSTALLED, "_found", {})


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """A package with an entry point, as pip would leave it."""
    (folder / "by_words_tokenizer.py").write_text(code)
    info = folder / "by_words-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: by-words\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tollgate.tokenizers]\nby-words = by_words_tokenizer:count\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "by_words_tokenizer", raising=False)


@pytest.mark.parametrize("operation", BODIES)
def test_the_texts_of_every_form_are_counted_once_and_nothing_else(operation: Operation) -> None:
    seen: list[str] = []
    spared_bytes(operation, BODIES[operation], lambda text: seen.append(text) or 0)
    assert sorted(seen) == sorted(TEXTS[operation])


@pytest.mark.parametrize("operation", BODIES)
def test_what_is_spared_is_never_more_than_what_was_weighed(operation: Operation) -> None:
    shape = _shape(CallRequest("m", operation, BODIES[operation]))
    spared = spared_bytes(operation, BODIES[operation], lambda _: 0)
    assert spared == sum(len(text) for text in TEXTS[operation])
    assert spared <= shape.input_bytes


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(),
    lambda below: (
        st.lists(below, max_size=4)
        | st.dictionaries(
            st.sampled_from(["content", "text", "type", "name", "image_url", "file", "arguments"]), below, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, min_size=1, max_size=3))
def test_no_message_spares_more_bytes_than_it_has(contents: list[object]) -> None:
    body = {"messages": [{"role": "user", "content": content} for content in contents]}
    shape = _shape(CallRequest("m", Operation.CHAT, body))
    assert 0 <= spared_bytes(Operation.CHAT, body, lambda _: 0) <= shape.input_bytes


ANYWHERE = st.dictionaries(
    st.sampled_from(["messages", "system", "input", "instructions", "prompt", "content", "text", "role"]),
    JSON,
    max_size=5,
)


@given(st.sampled_from(list(Operation)), ANYWHERE, ANYWHERE)
def test_no_field_that_is_not_weighed_makes_the_bound_smaller(
    operation: Operation, more: dict[str, object], in_message: dict[str, object]
) -> None:
    beside = {"prompt": "a b", "seconds": 3, **(more if operation is Operation.TRANSCRIPTION else {})}
    body = {**more, **BODIES.get(operation, beside)}
    if "messages" in body and operation in (Operation.CHAT, Operation.MESSAGES):
        body["messages"] = [{**in_message, **message} for message in body["messages"]]
    upload = Upload("a.mp3", "audio/mpeg", b"x") if operation is Operation.TRANSCRIPTION else None
    try:
        shape = _shape(CallRequest("m", operation, body, upload=upload))
    except InvalidInput:
        return
    assert 0 <= spared_bytes(operation, body, lambda _: 0) <= shape.input_bytes


@pytest.mark.parametrize("operation", [each for each in BODIES if each is not Operation.CHAT])
def test_a_long_text_beside_the_input_spares_nothing(operation: Operation) -> None:
    names = {"messages", "system", "input", "instructions", "prompt"} - BODIES[operation].keys()
    names -= {"prompt"} if operation is Operation.RESPONSES else set()  # there it is refused
    beside = {**BODIES[operation], **dict.fromkeys(names, "x" * 5_000)}
    if operation is Operation.MESSAGES:
        beside["messages"] = [{**each, "text": "x" * 5_000} for each in BODIES[operation]["messages"]]
    assert _shape(CallRequest("m", operation, beside)).input_bytes < 5_000
    assert spared_bytes(operation, beside, lambda _: 0) == sum(len(text) for text in TEXTS[operation])


@pytest.mark.parametrize("prompt", [["x" * 5_000], {"content": "x" * 5_000}])
def test_a_transcriptions_prompt_that_is_no_text_spares_nothing(prompt: object) -> None:
    upload = Upload("a.mp3", "audio/mpeg", b"x")
    shape = _shape(CallRequest("m", Operation.TRANSCRIPTION, {"prompt": prompt}, upload=upload))
    assert shape.input_bytes == spared_bytes(Operation.TRANSCRIPTION, {"prompt": prompt}, lambda _: 0) == 0


@pytest.mark.parametrize("wrong", [-1, 10])
def test_a_count_that_cannot_be_is_taken_for_the_bytes(wrong: int) -> None:
    assert spared_bytes(Operation.EMBEDDING, {"input": "nine byte"}, lambda _: wrong) == 0


def test_texts_that_would_hold_up_others_are_bounded_by_their_bytes() -> None:
    def count(_: str) -> int:
        raise AssertionError("too long to be counted")

    assert spared_bytes(Operation.EMBEDDING, {"input": "x" * (MAX_COUNTED_BYTES + 1)}, count) == 0


def test_one_that_is_not_installed_or_fails_is_logged_without_the_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert Tokenizers().get("nobody") is None
    assert "nobody" in caplog.text
    install(monkeypatch, tmp_path, "def count(text):\n    raise ValueError(text)\n")
    count = Tokenizers().get("by-words")
    assert count is not None
    assert count("a secret prompt") == -1
    assert "by-words failed" in caplog.text
    assert "secret" not in caplog.text


def test_one_that_cannot_be_loaded_leaves_the_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch, tmp_path, "raise RuntimeError('no vocabulary')\n")
    assert Tokenizers().get("by-words") is None
    assert "no vocabulary" in caplog.text


@pytest.fixture
def more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gateway.conftest.EXTRA", EXTRA + COUNTED)


async def test_the_hold_is_by_its_count_where_it_is_installed(
    more: None, gate: Gate, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    body = chat(model="counted", messages=[{"role": "user", "content": "one two three four five six"}])

    async def bound() -> int:
        facts = await gate.services.workspaces.facts(gate.seeded.workspace_id)
        caller = Caller("r", facts.workspace_id, facts.wallet_id, facts.plan)
        made = await gate.services.calls.estimate(caller, CallRequest("counted", Operation.CHAT, body))
        return made.bound_micro // 1_000_000

    by_bytes = await bound()
    INSTALLED._found.clear()
    install(monkeypatch, tmp_path, "def count(text):\n    return len(text.split())\n")
    assert by_bytes - await bound() == len("one two three four five six") - 6
    answer = await gate.ask(body)
    assert answer.status == 200
