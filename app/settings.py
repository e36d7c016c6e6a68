"""The settings of a process: every variable of the environment, read once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final, TypeVar

from app.busy_polling import MAX_US
from app.graphql.document_mode import DocumentMode
from app.secret_key import kept_secret_key
from app.setting_values import (
    Environment,
    LimiterPolicy,
    Network,
    Secret,
    SettingsError,
    address,
    boolean,
    each,
    integer,
    mail_address,
    network,
    one_of,
    optional,
    origin,
    secret,
    secret_keys,
    smtp_address,
    store_address,
    web_address,
)
from app.variables import VARIABLES

_T = TypeVar("_T")


OF_CLIENTS: Final = frozenset({"TOLLGATE_KEY", "TOLLGATE_URL"})
"""What the documentation's examples of clients read."""
_BY_NAME = {variable.name: variable for variable in VARIABLES}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. See VARIABLES for the meaning of each."""

    database_url: Secret | None
    redis_url: Secret | None
    catalog: Path
    secret_key: Secret | None
    host: str
    port: int
    workers: int
    busy_poll_us: int
    data_dir: Path
    public_url: str
    environment: Environment
    log_level: str
    graphiql: bool
    introspection: bool
    trusted_documents: Path | None
    document_mode: DocumentMode
    allowed_origins: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    egress_allow: tuple[Network, ...]
    hold_ttl_s: int
    limiter_policy: LimiterPolicy
    sandbox_url: str | None
    smtp_url: Secret | None
    mail_from: str
    oidc_issuer: str | None
    oidc_audience: str | None
    assets_url: str
    assets_store: str
    stripe_api_key: Secret | None
    stripe_webhook_secret: Secret | None
    stripe_api_base: str | None
    openai_api_key: Secret | None
    openai_base_url: str
    anthropic_api_key: Secret | None
    anthropic_base_url: str
    otel_endpoint: str | None
    otel_service_name: str
    warnings: tuple[str, ...]
    """Sentences about names of ours that mean nothing, probably misspelt."""
    _variables: Mapping[str, Secret] = field(repr=False, compare=False)

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> "Settings":
        """Read all variables; raises SettingsError with every problem found."""
        read = _Reader(env)
        host = read("TOLLGATE_HOST", str)
        port = read("TOLLGATE_PORT", integer(1, 65535))
        public_url = read("TOLLGATE_PUBLIC_URL", optional(web_address)) or _own_address(host, port)
        settings = cls(
            database_url=read("TOLLGATE_DATABASE_URL", secret(address("postgresql", "postgres"))),
            redis_url=read(
                "TOLLGATE_REDIS_URL", secret(address("redis", "rediss", "unix", "redis+cluster", "rediss+cluster"))
            ),
            catalog=read("TOLLGATE_CATALOG", Path),
            secret_key=read("TOLLGATE_SECRET_KEY", secret(secret_keys)),
            host=host,
            port=port,
            workers=read("TOLLGATE_WORKERS", integer(1, 256)),
            busy_poll_us=read("TOLLGATE_BUSY_POLL_US", integer(0, MAX_US)),
            data_dir=read("TOLLGATE_DATA_DIR", Path),
            public_url=public_url,
            environment=Environment(read("TOLLGATE_ENVIRONMENT", one_of(*Environment))),
            log_level=read("TOLLGATE_LOG_LEVEL", one_of("debug", "info", "warning", "error")),
            graphiql=read("TOLLGATE_GRAPHIQL", boolean),
            introspection=read("TOLLGATE_INTROSPECTION", boolean),
            trusted_documents=read("TOLLGATE_TRUSTED_DOCUMENTS", optional(Path)),
            document_mode=DocumentMode(read("TOLLGATE_DOCUMENT_MODE", one_of(*DocumentMode))),
            allowed_origins=read("TOLLGATE_ALLOWED_ORIGINS", each(origin)),
            trusted_proxies=read("TOLLGATE_TRUSTED_PROXIES", each(network)),
            egress_allow=read("TOLLGATE_EGRESS_ALLOW", each(network)),
            hold_ttl_s=read("TOLLGATE_HOLD_TTL_S", integer(5, 86_400)),
            limiter_policy=LimiterPolicy(read("TOLLGATE_LIMITER_POLICY", one_of(*LimiterPolicy))),
            sandbox_url=read("TOLLGATE_SANDBOX_URL", optional(web_address)),
            smtp_url=read("TOLLGATE_SMTP_URL", secret(smtp_address)),
            mail_from=read("TOLLGATE_MAIL_FROM", mail_address),
            oidc_issuer=read("TOLLGATE_OIDC_ISSUER", optional(web_address)),
            oidc_audience=read("TOLLGATE_OIDC_AUDIENCE", optional(str)),
            assets_url=read("TOLLGATE_ASSETS_URL", optional(web_address)) or public_url,
            assets_store=read("TOLLGATE_ASSETS_STORE", store_address),
            stripe_api_key=read("STRIPE_API_KEY", secret(str)),
            stripe_webhook_secret=read("STRIPE_WEBHOOK_SECRET", secret(str)),
            stripe_api_base=read("STRIPE_API_BASE", optional(web_address)),
            openai_api_key=read("OPENAI_API_KEY", secret(str)),
            openai_base_url=read("OPENAI_BASE_URL", web_address),
            anthropic_api_key=read("ANTHROPIC_API_KEY", secret(str)),
            anthropic_base_url=read("ANTHROPIC_BASE_URL", web_address),
            otel_endpoint=read("OTEL_EXPORTER_OTLP_ENDPOINT", optional(web_address)),
            otel_service_name=read("OTEL_SERVICE_NAME", str),
            warnings=_unknown_names(env),
            _variables={name: Secret(value.strip()) for name, value in env.items() if value.strip()},
        )
        if settings.oidc_issuer and not settings.oidc_audience:
            read.problems.append("TOLLGATE_OIDC_AUDIENCE is not set; it is required with TOLLGATE_OIDC_ISSUER")
        if settings.stripe_api_key and not settings.stripe_webhook_secret:
            read.problems.append("STRIPE_WEBHOOK_SECRET is not set; it is required with STRIPE_API_KEY")
        if read.problems:
            raise SettingsError(read.problems)
        return settings

    def check_complete(self) -> None:
        """For `serve`, `worker` and `migrate`, which start nothing themselves. Raises SettingsError."""
        missing = [
            f"{name} is not set; only `tollgate run` can do without it"
            for name, value in (
                ("TOLLGATE_DATABASE_URL", self.database_url),
                ("TOLLGATE_REDIS_URL", self.redis_url),
                ("TOLLGATE_SECRET_KEY", self.secret_key),
            )
            if value is None
        ]
        if missing:
            raise SettingsError(missing)

    def with_kept_secret_key(self) -> "Settings":
        """For `tollgate run`: without TOLLGATE_SECRET_KEY, one made at random and kept in the data directory."""
        return self if self.secret_key else replace(self, secret_key=Secret(kept_secret_key(self.data_dir)))

    def with_servers(self, *, database_url: str | None = None, redis_url: str | None = None) -> "Settings":
        """The same, with the addresses of embedded servers where none were set."""
        return replace(
            self,
            database_url=self.database_url or (Secret(database_url) if database_url else None),
            redis_url=self.redis_url or (Secret(redis_url) if redis_url else None),
        )

    def with_stripe(self, variables: Mapping[str, str]) -> "Settings":
        """The same, with another account at Stripe; `variables` as in the environment."""
        return replace(
            self,
            stripe_api_key=Secret(variables["STRIPE_API_KEY"]),
            stripe_webhook_secret=Secret(variables["STRIPE_WEBHOOK_SECRET"]),
            stripe_api_base=variables["STRIPE_API_BASE"],
        )

    def variable(self, name: str) -> Secret | None:
        """A provider's key by the name the catalog gives; None when unset or empty."""
        return self._variables.get(name)

    def environment_texts(self) -> Mapping[str, str]:
        """The whole environment in clear, for what a catalog names by variable: never log it."""
        return {name: value.reveal() for name, value in self._variables.items()}


class _Reader:
    """Reads one variable after another and collects what is wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.problems: list[str] = []

    def __call__(self, name: str, parse: Callable[[str], _T]) -> _T:
        """The parsed value; the default's when it is unset, and also when it is wrong, which is then a problem."""
        variable = _BY_NAME[name]
        text = self._env.get(name, "").strip()
        try:
            return parse(text or variable.default)
        except ValueError as problem:
            shown = "" if variable.secret else f" {text!r}"
            self.problems.append(f"{name}: the value{shown} is not usable; expected {problem}")
            return parse(variable.default)


def _unknown_names(env: Mapping[str, str]) -> tuple[str, ...]:
    sentences: list[str] = []
    for name in sorted(env):
        if name.startswith("TOLLGATE_") and name not in _BY_NAME and name not in OF_CLIENTS:
            near = get_close_matches(name, _BY_NAME, n=1)
            sentences.append(f"{name} is not a variable of Tollgate" + (f"; is {near[0]} meant?" if near else ""))
    return tuple(sentences)


def _own_address(host: str, port: int) -> str:
    everywhere = {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}  # noqa: S104 - compared, not bound
    name = everywhere.get(host, host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
