"""The environment: what is accepted, what is refused, and that secrets do not show."""

import ipaddress
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from app.setting_values import Environment, LimiterPolicy, Secret, SettingsError
from app.settings import Settings
from app.variables import VARIABLES

SECRET_VALUES = {
    "TOLLGATE_DATABASE_URL": "postgresql://me:hunter2@db/tollgate",
    "TOLLGATE_REDIS_URL": "rediss://:hunter2@cache:6380/1",
    "TOLLGATE_SECRET_KEY": "hunter2" * 6,
    "TOLLGATE_SMTP_URL": "smtp://me:hunter2@mail:587",
    "STRIPE_API_KEY": "sk_test_hunter2",
    "STRIPE_WEBHOOK_SECRET": "whsec_hunter2",
    "OPENAI_API_KEY": "sk-hunter2",
    "ANTHROPIC_API_KEY": "sk-ant-hunter2",
}


class RecordingEnvironment(Mapping[str, str]):
    """Remembers which names were asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings.database_url is None
    assert settings.redis_url is None
    assert settings.catalog == Path("catalogs/pay-as-you-go.toml")
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.data_dir == Path(".tollgate")
    assert settings.public_url == "http://localhost:8000"
    assert settings.assets_url == settings.public_url
    assert settings.environment is Environment.LIVE
    assert settings.hold_ttl_s == 120
    assert settings.limiter_policy is LimiterPolicy.OPEN
    assert settings.egress_allow == ()
    assert settings.openai_base_url == "https://api.openai.com/v1"


def test_every_variable_of_the_table_is_read_and_no_other() -> None:
    env = RecordingEnvironment()
    Settings.from_environment(env)
    assert env.asked == {variable.name for variable in VARIABLES}


def test_an_empty_value_counts_as_unset() -> None:
    assert Settings.from_environment(dict.fromkeys((v.name for v in VARIABLES), " ")) == Settings.from_environment({})


def test_values_are_read_into_their_types() -> None:
    settings = Settings.from_environment(
        {
            "TOLLGATE_PORT": "9000",
            "TOLLGATE_HOST": "::1",
            "TOLLGATE_ENVIRONMENT": "TEST",
            "TOLLGATE_LIMITER_POLICY": "closed",
            "TOLLGATE_GRAPHIQL": "off",
            "TOLLGATE_ALLOWED_ORIGINS": "https://app.example, http://localhost:3000/",
            "TOLLGATE_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
            "TOLLGATE_EGRESS_ALLOW": "192.168.1.7",
            "OPENAI_BASE_URL": "http://127.0.0.1:9100/v1/",
            "GROQ_API_KEY": " gsk_abc ",
        }
    )
    assert settings.public_url == "http://[::1]:9000"
    assert settings.environment is Environment.TEST
    assert settings.limiter_policy is LimiterPolicy.CLOSED
    assert settings.graphiql is False
    assert settings.allowed_origins == ("https://app.example", "http://localhost:3000")
    assert settings.trusted_proxies == (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert settings.egress_allow == (ipaddress.ip_network("192.168.1.7/32"),)
    assert settings.openai_base_url == "http://127.0.0.1:9100/v1"
    assert settings.variable("GROQ_API_KEY") == Secret("gsk_abc")
    assert settings.variable("NOT_SET") is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TOLLGATE_PORT", "http", "a whole number from 1 to 65535"),
        ("TOLLGATE_PORT", "70000", "a whole number from 1 to 65535"),
        ("TOLLGATE_WORKERS", "0", "a whole number from 1 to 256"),
        ("TOLLGATE_BUSY_POLL_US", "-1", "a whole number from 0 to 1000000"),
        ("TOLLGATE_HOLD_TTL_S", "-1", "a whole number from 5 to 86400"),
        ("TOLLGATE_LIMITER_POLICY", "ajar", "one of open, closed"),
        ("TOLLGATE_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("TOLLGATE_GRAPHIQL", "perhaps", "true or false"),
        ("TOLLGATE_PUBLIC_URL", "example.com", "https://host/path"),
        ("TOLLGATE_PUBLIC_URL", "http://[::1", "https://host/path"),
        ("TOLLGATE_ALLOWED_ORIGINS", "https://a.example/path", "origins as https://host"),
        ("TOLLGATE_TRUSTED_PROXIES", "10.0.0.0/99", "networks as 10.0.0.0/8"),
        ("TOLLGATE_MAIL_FROM", "nobody", "a mail address"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({name: value})
    [problem] = refused.value.problems
    assert problem.startswith(f"{name}: the value {value!r} ")
    assert expected in problem


@pytest.mark.parametrize(
    "name", ["TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL", "TOLLGATE_SMTP_URL", "TOLLGATE_SECRET_KEY"]
)
def test_a_wrong_secret_is_refused_without_showing_it(name: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({name: "ftp://me:hunter2@x"})
    assert name in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_all_problems_are_shown_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(
            {"TOLLGATE_PORT": "x", "TOLLGATE_WORKERS": "y", "TOLLGATE_OIDC_ISSUER": "https://id.example"}
        )
    assert len(refused.value.problems) == 3
    assert "TOLLGATE_OIDC_AUDIENCE" in refused.value.problems[2]


def test_no_secret_shows_in_the_settings() -> None:
    settings = Settings.from_environment({**SECRET_VALUES, "GROQ_API_KEY": "hunter2"})
    assert set(SECRET_VALUES) == {variable.name for variable in VARIABLES if variable.secret}
    for shown in (repr(settings), str(settings), f"{settings.secret_key}", f"{settings.secret_key!r:>40}"):
        assert "hunter2" not in shown
    assert settings.secret_key is not None
    assert settings.secret_key.reveal() == SECRET_VALUES["TOLLGATE_SECRET_KEY"]


def test_a_misspelt_name_is_a_warning_with_the_name_meant() -> None:
    [warning] = Settings.from_environment({"TOLLGATE_PROT": "1", "PATH": "/bin"}).warnings
    assert warning == "TOLLGATE_PROT is not a variable of Tollgate; is TOLLGATE_PORT meant?"


def test_what_the_examples_of_clients_read_is_no_mistake() -> None:
    assert (
        Settings.from_environment({"TOLLGATE_KEY": "tg_live_x", "TOLLGATE_URL": "http://localhost:8000"}).warnings == ()
    )


def test_serving_requires_what_run_makes_for_itself() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({}).check_complete()
    assert [problem.split()[0] for problem in refused.value.problems] == [
        "TOLLGATE_DATABASE_URL",
        "TOLLGATE_REDIS_URL",
        "TOLLGATE_SECRET_KEY",
    ]
    Settings.from_environment(SECRET_VALUES).check_complete()


def test_embedded_servers_never_replace_addresses_that_were_set() -> None:
    addresses = {"database_url": "postgresql://embedded/x", "redis_url": "unix:///embedded"}
    settings = Settings.from_environment({"TOLLGATE_REDIS_URL": "redis://mine"}).with_servers(**addresses)
    assert settings.database_url == Secret("postgresql://embedded/x")
    assert settings.redis_url == Secret("redis://mine")


def test_the_kept_secret_key_is_private_and_stays_the_same(tmp_path: Path) -> None:
    env = {"TOLLGATE_DATA_DIR": str(tmp_path / "new" / "data")}
    first = Settings.from_environment(env).with_kept_secret_key().secret_key
    again = Settings.from_environment(env).with_kept_secret_key().secret_key
    assert first is not None
    assert first == again
    assert len(first.reveal()) >= 32
    [file] = (tmp_path / "new" / "data").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_secret_key_that_is_set_is_not_replaced_by_the_kept_one(tmp_path: Path) -> None:
    env = {"TOLLGATE_DATA_DIR": str(tmp_path), "TOLLGATE_SECRET_KEY": "k" * 40}
    assert Settings.from_environment(env).with_kept_secret_key().secret_key == Secret("k" * 40)
    assert os.listdir(tmp_path) == []


def test_a_damaged_kept_secret_key_is_refused_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("short")
    with pytest.raises(SettingsError, match="holds no usable key"):
        Settings.from_environment({"TOLLGATE_DATA_DIR": str(tmp_path)}).with_kept_secret_key()
    assert (tmp_path / "secret_key").read_text() == "short"


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"TOLLGATE_DATA_DIR: .*file/data cannot be made"):
        Settings.from_environment({"TOLLGATE_DATA_DIR": str(tmp_path / "file" / "data")}).with_kept_secret_key()
