"""The Stripe double as `tollgate run --stripe-double` starts it."""

import urllib.request
from pathlib import Path

import pytest

from app.embedded_stripe import start_stripe_double


def test_what_it_knows_is_kept_in_a_data_directory_that_is_named_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    double = start_stripe_double(Path("data"), "http://127.0.0.1:9/")
    try:
        request = urllib.request.Request(f"{double.url}/v1/customers", b"email=a%40example.com")
        request.add_header("Authorization", "Bearer sk_test_double")
        urllib.request.urlopen(request).close()
    finally:
        double.stop()
    assert b"a@example.com" in (tmp_path / "data" / "stripe-double.state").read_bytes()
    assert "failed" not in (tmp_path / "data" / "logs" / "stripe-double.log").read_text()
