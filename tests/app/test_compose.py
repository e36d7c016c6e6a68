"""docker-compose.yml and the Dockerfile: held to the settings, commands and paths that exist."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from app.cli import cli
from app.health import PATHS
from app.variables import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
OURS = ("migrate", "gateway", "worker")
NAMES = {variable.name for variable in VARIABLES}
NEEDED = {"TOLLGATE_DATABASE_URL", "TOLLGATE_REDIS_URL", "TOLLGATE_SECRET_KEY"}
INSTRUCTIONS = [
    (line.split()[0], line.split(maxsplit=1)[1])
    for line in re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text()).splitlines()
    if line.strip() and not line.startswith("#")
]
LAST_STAGE = INSTRUCTIONS[max(index for index, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def of(word: str) -> list[str]:
    return [rest for name, rest in LAST_STAGE if name == word]


def tollgate_commands(command: list[str]) -> list[list[str]]:
    """Every call of `tollgate` in an exec-form command, also those inside `sh -c`."""
    if command[0] == "sh":
        return [shlex.split(part) for part in command[2].split("&&")]
    return [command]


@pytest.mark.parametrize("service", OURS)
def test_every_variable_that_compose_sets_or_asks_for_is_one_of_ours(service: str) -> None:
    environment = SERVICES[service]["environment"]
    assert set(environment) <= NAMES
    asked = {name for value in environment.values() for name in re.findall(r"\$\{([A-Z_]+)", str(value))}
    assert asked <= NAMES | {"POSTGRES_PASSWORD"}


@pytest.mark.parametrize("service", OURS)
def test_what_serve_and_worker_need_is_set_and_compose_stops_without_the_secrets(service: str) -> None:
    environment = SERVICES[service]["environment"]
    assert environment.keys() >= NEEDED
    assert environment["TOLLGATE_SECRET_KEY"].startswith("${TOLLGATE_SECRET_KEY:?")
    assert "${POSTGRES_PASSWORD:?" in environment["TOLLGATE_DATABASE_URL"]


def test_the_servers_in_the_addresses_are_services_with_what_the_addresses_say() -> None:
    environment = SERVICES["gateway"]["environment"]
    user, host, database = re.fullmatch(
        r"postgresql://(\w+):\$\{.*?\}@(\w+):5432/(\w+)", environment["TOLLGATE_DATABASE_URL"]
    ).groups()
    assert (SERVICES[host]["environment"]["POSTGRES_USER"], SERVICES[host]["environment"]["POSTGRES_DB"]) == (user, database)  # fmt: skip
    assert re.fullmatch(r"redis://(\w+):6379/0", environment["TOLLGATE_REDIS_URL"])[1] in SERVICES


def test_no_secret_stands_in_the_file() -> None:
    for service in OURS:
        for variable in VARIABLES:
            value = SERVICES[service]["environment"].get(variable.name, "")
            assert not variable.secret or not value or "${" in value or "@" not in value, variable.name


@pytest.mark.parametrize("service", OURS)
def test_every_command_exists(service: str) -> None:
    for words in tollgate_commands(SERVICES[service]["command"]):
        assert words[0] == "tollgate"
        found = cli
        for word in words[1:]:
            if not hasattr(found, "commands"):
                break
            assert word in found.commands, words
            found = found.commands[word]
        known = {option for parameter in found.params for option in parameter.opts if option.startswith("--")}
        assert {word for word in words if word.startswith("--")} <= known


def test_the_catalogs_that_compose_applies_are_in_the_repository() -> None:
    default = re.search(r":-(.+)\}", SERVICES["migrate"]["environment"]["TOLLGATE_CATALOG"])[1]
    assert (ROOT / default).is_file()


@pytest.mark.parametrize("service", ["gateway", "worker"])
def test_migrations_end_well_before_anything_of_ours_starts(service: str) -> None:
    needs = SERVICES[service]["depends_on"]
    assert needs["migrate"] == {"condition": "service_completed_successfully"}
    assert needs["redis"] == {"condition": "service_healthy"}
    assert SERVICES["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    assert SERVICES["migrate"]["restart"] == "no"


def test_health_is_asked_for_on_paths_that_exist() -> None:
    asked = " ".join(SERVICES["gateway"]["healthcheck"]["test"]) + " ".join(of("HEALTHCHECK"))
    paths = re.findall(r"127\.0\.0\.1:8000(/\w+)", asked)
    assert paths == ["/readyz", "/healthz"]
    assert set(paths) <= PATHS
    for service in ("postgres", "redis"):
        assert SERVICES[service]["healthcheck"]["test"]


def test_redis_keeps_its_data_and_evicts_nothing() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_every_volume_is_declared_and_data_lies_on_one() -> None:
    mounts = {name: service.get("volumes", []) for name, service in SERVICES.items()}
    assert {mount.split(":")[0] for each in mounts.values() for mount in each} == set(COMPOSE["volumes"])
    data = re.search(r"TOLLGATE_DATA_DIR=(\S+)", " ".join(of("ENV")))[1]
    assert f"journal:{data}" in mounts["gateway"]
    assert of("VOLUME") == [data]
    for service in ("postgres", "redis"):
        assert mounts[service]


def test_images_of_others_are_pinned_by_major_version() -> None:
    foreign = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    foreign += [rest.split()[0] for word, rest in INSTRUCTIONS if word == "FROM"]
    for image in foreign:
        assert re.search(r":\d", image), image


def test_the_grace_of_compose_is_longer_than_the_gateways_own() -> None:
    from app.lifespan import DRAIN_S
    from app.run import GRACE_S

    assert int(SERVICES["gateway"]["stop_grace_period"].rstrip("s")) > GRACE_S + DRAIN_S


def test_the_image_runs_as_an_unprivileged_user_and_listens_where_compose_publishes() -> None:
    (user,) = of("USER")
    assert user not in {"root", "0"}
    last = [word for word, _ in LAST_STAGE]
    assert not {"RUN", "COPY", "ADD"} & set(last[last.index("USER") :])
    assert of("EXPOSE") == ["8000"]
    assert SERVICES["gateway"]["ports"] == ["8000:8000"]
    assert "TOLLGATE_HOST=0.0.0.0" in " ".join(of("ENV"))
    assert of("CMD") == ['["tollgate", "serve"]']


def test_every_file_that_the_dockerfile_names_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    text = " ".join(rest for _, rest in INSTRUCTIONS)
    named = {"requirements.lock", "tools/link_checkout.py"}
    assert named <= set(text.split())
    for name in named | {"catalogs"}:
        assert (ROOT / name).exists()
        assert not {name, name.split("/", maxsplit=1)[0]} & set(ignored)
    assert {".git", ".venv", ".tollgate"} <= set(ignored)
    assert not any("://" in rest for _, rest in INSTRUCTIONS if not rest.startswith(("--interval", "CMD"))), text


def test_environment_names_in_the_dockerfile_are_ours() -> None:
    assert set(re.findall(r"\b(TOLLGATE_[A-Z_]+)=", " ".join(of("ENV")))) <= NAMES
