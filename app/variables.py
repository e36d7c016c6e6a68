"""The names of the environment, as documentation and tests show them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Variable:
    """One name of the environment, as documentation and tests show it. An empty value counts as unset."""

    name: str
    default: str
    meaning: str
    secret: bool = False


VARIABLES: tuple[Variable, ...] = (
    Variable(
        "TOLLGATE_DATABASE_URL",
        "",
        "PostgreSQL, as postgresql://…; `tollgate run` starts its own when unset",
        secret=True,
    ),
    Variable(
        "TOLLGATE_REDIS_URL",
        "",
        "Redis or Valkey, as redis://…, rediss://…, unix://… or, for a cluster, redis+cluster://…; likewise",
        secret=True,
    ),
    Variable("TOLLGATE_CATALOG", "catalogs/pay-as-you-go.toml", "the catalog file that `tollgate run` applies"),
    Variable(
        "TOLLGATE_SECRET_KEY",
        "",
        "encrypts what is kept to be presented; 32 random characters or more; 2:NEW,1:OLD while it is rotated",
        secret=True,
    ),
    Variable("TOLLGATE_HOST", "127.0.0.1", "the address to listen on"),
    Variable("TOLLGATE_PORT", "8000", "the port to listen on"),
    Variable("TOLLGATE_WORKERS", "1", "processes that serve requests"),
    Variable(
        "TOLLGATE_BUSY_POLL_US",
        "0",
        "microseconds after a REST call's request or answer for which a process does not sleep; for one with a core for itself",
    ),
    Variable("TOLLGATE_DATA_DIR", ".tollgate", "journal, assets, and the data of the embedded servers"),
    Variable("TOLLGATE_PUBLIC_URL", "", "the address clients use; http://host:port when unset"),
    Variable("TOLLGATE_ENVIRONMENT", "live", "live or test; new API keys carry it in their prefix"),
    Variable("TOLLGATE_LOG_LEVEL", "info", "debug, info, warning or error"),
    Variable("TOLLGATE_GRAPHIQL", "true", "serve GraphiQL to browsers at /graphql"),
    Variable("TOLLGATE_INTROSPECTION", "true", "answer introspection queries"),
    Variable(
        "TOLLGATE_TRUSTED_DOCUMENTS", "", 'a JSON file {"sha256": "document"} of GraphQL documents known beforehand'
    ),
    Variable(
        "TOLLGATE_DOCUMENT_MODE",
        "any",
        "any, trusted-for-strangers or trusted-only: who may send documents not in that file",
    ),
    Variable(
        "TOLLGATE_ALLOWED_ORIGINS", "", "origins of other sites that may call from a browser, separated by commas"
    ),
    Variable("TOLLGATE_TRUSTED_PROXIES", "", "networks whose X-Forwarded-For is believed, separated by commas"),
    Variable("TOLLGATE_EGRESS_ALLOW", "", "networks webhooks and publishers' providers may reach besides public ones"),
    Variable("TOLLGATE_HOLD_TTL_S", "120", "seconds after which a hold lapses that nobody renews"),
    Variable("TOLLGATE_LIMITER_POLICY", "open", "open or closed: calls pass or are refused while Redis is away"),
    Variable(
        "TOLLGATE_SANDBOX_URL",
        "",
        "a stand-alone sandbox provider; `tollgate run` starts one, else it is simulated inside",
    ),
    Variable(
        "TOLLGATE_SMTP_URL",
        "",
        "smtp://user:password@host:port or smtps://…; mail goes to the console when unset",
        secret=True,
    ),
    Variable("TOLLGATE_MAIL_FROM", "tollgate@localhost", "the sender of mail"),
    Variable("TOLLGATE_OIDC_ISSUER", "", "an OpenID Connect issuer whose tokens are accepted"),
    Variable("TOLLGATE_OIDC_AUDIENCE", "", "the audience those tokens must name; required with the issuer"),
    Variable("TOLLGATE_ASSETS_URL", "", "where stored outputs are served from; the public URL when unset"),
    Variable(
        "TOLLGATE_ASSETS_STORE",
        "",
        "where stored outputs lie, encrypted: s3://bucket/prefix or file:///folder; `assets` in the data directory when unset",
    ),
    Variable(
        "STRIPE_API_KEY", "", "Stripe's secret key; payments answer PAYMENTS_NOT_CONFIGURED when unset", secret=True
    ),
    Variable("STRIPE_WEBHOOK_SECRET", "", "verifies Stripe's webhooks; required with the key", secret=True),
    Variable("STRIPE_API_BASE", "", "another address than Stripe's, for a double"),
    Variable("OPENAI_API_KEY", "", "the key of the provider `openai`", secret=True),
    Variable("OPENAI_BASE_URL", "https://api.openai.com/v1", "the address of the provider `openai`"),
    Variable("ANTHROPIC_API_KEY", "", "the key of the provider `anthropic`", secret=True),
    Variable("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "the address of the provider `anthropic`"),
    Variable("OTEL_EXPORTER_OTLP_ENDPOINT", "", "an OpenTelemetry collector; traces of calls are sent there over HTTP"),
    Variable("OTEL_SERVICE_NAME", "tollgate", "the service's name in traces"),
)
