"""Forms are read as they were written; seconds are believed, measured or estimated; captions are made from segments."""

import contextlib
import struct
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules.audio import transcription_shape
from providers.base import Operation, ProviderRequest, Upload, Usage
from providers.errors import UpstreamGarbage
from providers.multipart import MAX_FIELDS, FormError, read_form, write_form
from providers.openai_audio import (
    MAX_SECONDS,
    transcription_asked,
    transcription_shown,
    transcription_usage,
    wav_seconds,
)
from providers.sandbox import SandboxProvider
from providers.sandbox_audio import speech

WAV, _ = speech({"model": "m", "input": "x" * 250})  # 2.5 s
ESTIMATED = Usage(input_tokens=100, seconds=10, reported=False)
MP3 = Upload("a.mp3", "audio/mpeg", b"x" * 80_000)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
names = st.text("abcdefghij_-", min_size=1, max_size=8).filter(lambda name: name != "file")


@given(
    st.dictionaries(names, texts | st.lists(texts, min_size=1, max_size=3) | st.dictionaries(names, texts, min_size=1, max_size=3), max_size=5),
    texts,
    st.binary(max_size=200),
)  # fmt: skip
def test_a_form_is_read_as_it_was_written(fields, filename, content):
    body = write_form(fields, Upload(filename, "audio/wav", content), "b" * 24)
    read, upload = read_form(body, f"multipart/form-data; boundary={'b' * 24}")
    assert read == fields
    assert (upload.content_type, upload.content) == ("audio/wav", content)


@given(
    st.binary(max_size=300),
    st.sampled_from(["multipart/form-data; boundary=b", "multipart/form-data", "", "text/plain"]),
)
def test_whatever_comes_is_a_form_or_said_to_be_none(content, content_type):
    for body in (content, b"--b\r\n" + content, b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n" + content):
        with contextlib.suppress(FormError):
            read_form(body, content_type)


def test_a_form_of_too_many_fields_is_refused():
    body = write_form({f"f{number}": "x" for number in range(MAX_FIELDS)}, MP3, "b")
    with pytest.raises(FormError, match="fields"):
        read_form(body, "multipart/form-data; boundary=b")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"usage": {"type": "duration", "seconds": 12.1}}, Usage(seconds=13)),
        ({"duration": "12.0"}, Usage(seconds=12)),
        ({"duration": 0}, Usage(seconds=0)),
        ({}, ESTIMATED),
        ({"text": "twelve bytes"}, Usage(input_tokens=100, output_tokens=3, seconds=10, reported=False)),
        ({"duration": -1}, ESTIMATED),
        ({"duration": float("nan")}, ESTIMATED),
        ({"duration": MAX_SECONDS + 1}, ESTIMATED),
        ({"usage": {"type": "duration", "seconds": True}}, ESTIMATED),
        ({"usage": {"type": "tokens", "input_tokens": 20, "output_tokens": 3}}, Usage(20, output_tokens=3, seconds=10)),
        (
            {"usage": {"type": "tokens", "input_tokens": 20, "output_tokens": 3, "total_tokens": 23}, "duration": 2},
            Usage(input_tokens=20, output_tokens=3, seconds=2),
        ),
    ],
)
def test_seconds_are_believed_or_estimated(answer, expected):
    assert transcription_usage(answer, MP3) == expected


def test_a_wav_file_says_itself_how_long_it_plays():
    assert wav_seconds(WAV) == Fraction(5, 2)
    assert transcription_usage({}, Upload("a", "b", WAV)) == Usage(input_tokens=30, seconds=3, reported=False)
    odd = b"RIFF____WAVE" + b"LIST" + struct.pack("<I", 3) + b"abc\x00" + WAV[12:]
    assert wav_seconds(odd) == Fraction(5, 2)
    assert wav_seconds(WAV[:30]) is None
    assert wav_seconds(b"RIFF") is None


def of_header(sound: bytes = WAV[44:], size: int | None = None, **other: int) -> bytes:
    """A WAV file with a header of its own."""
    form = {"code": 1, "channels": 1, "rate": 16_000, "per_second": 32_000, "align": 2, "bits": 16, **other}
    size = len(sound) if size is None else size
    return b"RIFF____WAVEfmt " + struct.pack("<IHHIIHH", 16, *form.values()) + b"data" + struct.pack("<I", size) + sound


HOUR = bytes(32_000 * 36)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, len(HOUR)])
@pytest.mark.parametrize("per_second", [0, 1, 32_000, 0xFFFFFFFF])
def test_what_a_header_says_in_fields_that_no_decoder_reads_changes_nothing(size: int, per_second: int) -> None:
    lying = of_header(HOUR, size, per_second=per_second)
    assert wav_seconds(lying) == 36
    assert transcription_shape({}, Upload("a", "b", lying)).seconds == 37


def test_a_small_size_and_strange_samples_make_no_hold_smaller() -> None:
    assert transcription_shape({}, Upload("a", "b", of_header(HOUR, 2))).seconds == 37
    for strange in (
        {"code": 0x55},
        {"channels": 65_535},
        {"rate": 0},
        {"rate": 2**32 - 1},
        {"bits": 0},
        {"bits": 60_000},
    ):
        content = of_header(HOUR, **strange)
        assert wav_seconds(content) is None
        assert transcription_shape({}, Upload("a", "b", content)).seconds > len(content) / 500


@given(st.binary(max_size=100))
def test_any_bytes_play_no_longer_than_they_are_held_for(rest):
    for content in (rest, WAV[:20] + rest, WAV[:44] + rest):
        upload = Upload("a", "b", content or b"x")
        played = wav_seconds(upload.content)
        if played is not None:
            assert transcription_shape({}, upload).seconds >= min(played, MAX_SECONDS)


def test_text_formats_are_asked_for_as_json_and_made_from_it():
    segments = [
        {"start": 0, "end": 1.5, "text": " One."},
        {"start": 3661.25, "end": "x", "text": "Two."},
        "rubbish",
    ]
    answer = {"text": "One. Two.", "segments": segments}
    for wanted, sent in (("text", "json"), ("srt", "verbose_json"), ("vtt", "verbose_json"), ("json", "json")):
        assert transcription_asked({"response_format": wanted, "file": 1, "model": "m"})["response_format"] == sent
    srt = transcription_shown({"response_format": "srt"}, answer)["text"]
    assert srt == "1\n00:00:00,000 --> 00:00:01,500\nOne.\n\n2\n01:01:01,250 --> 00:00:00,000\nTwo.\n\n"
    vtt = transcription_shown({"response_format": "vtt"}, answer)["text"]
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nOne.\n")
    assert transcription_shown({"response_format": "text"}, answer)["text"] == "One. Two.\n"
    assert transcription_shown({}, answer) is answer
    with pytest.raises(UpstreamGarbage):
        transcription_shown({}, {"texts": 1})


async def test_the_sandbox_inside_speaks_and_hears_as_the_server_does():
    sandbox = SandboxProvider()
    spoken = await sandbox.complete(ProviderRequest(Operation.SPEECH, "m", {"input": "x" * 250}, "r"))
    assert spoken.usage == Usage(characters=250)
    assert spoken.body["content_type"] == "audio/wav"
    heard = await sandbox.complete(
        ProviderRequest(Operation.TRANSCRIPTION, "m", {}, "r", upload=Upload("a.wav", "audio/wav", WAV))
    )
    assert heard.usage == Usage(seconds=3)
    assert heard.body["text"]
