"""The documentation: its links, commands, tables and names hold, and nothing of one machine is in the repository.

`python -m tests.test_docs --write` writes the settings table of docs/operators.md and the table of docs/metering.md anew.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import openai_errors
from app.asgi import BodyTooLarge
from app.cli import cli
from app.throttle import ThrottledRequest
from app.variables import VARIABLES
from gateway.rules import truth
from kit.errors import BadRequest, Forbidden, NotFound, Unauthenticated, Unavailable

ROOT = Path(__file__).resolve().parents[1]
OPERATORS = ROOT / "docs" / "operators.md"
SETTINGS_BEGIN = "<!-- settings: written by python -m tests.test_docs --write -->\n"
SETTINGS_END = "<!-- end -->"
METERING = ROOT / "docs" / "metering.md"
TRUTH_BEGIN = "<!-- truth: written by python -m tests.test_docs --write -->\n"
RULES = [f"{letter}{number}" for letter, last in (("A", 11), ("B", 16), ("C", 11), ("D", 12)) for number in range(1, last + 1)]  # fmt: skip
ROW_OF_A_RULE = re.compile(r"^\| ([A-D][0-9]+) (?:[^|]*\|){3} *([^|]*)\| *([^|]*)\|$", re.MULTILINE)
BUILT_FROM_OTHERS = "app/static/"


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def pages() -> list[Path]:
    ours = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in ours if not path.is_relative_to(ROOT / ".venv"))


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def fences(language: str) -> Iterator[tuple[Path, str]]:
    for page in pages():
        for block in re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield page, block


def rooms() -> list[str]:
    """The rooms of the house, as the picture in docs/contributors.md names them."""
    picture = (ROOT / "docs" / "contributors.md").read_text().partition("## The house")[2].partition("Each room")[0]
    return [room for line in re.findall(r"^    ([a-z| ]+?)  ", picture, re.MULTILINE) for room in line.split(" | ")]


def settings_table() -> str:
    rows = [
        f"| `{variable.name}` | {f'`{variable.default}`' if variable.default else 'unset'} | {variable.meaning}"
        f"{' (secret)' if variable.secret else ''} |"
        for variable in VARIABLES
    ]
    return "\n".join(["| variable | default | |", "| --- | --- | --- |", *rows]) + "\n"


def existing_tests() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
                found.setdefault(node.name, set()).add(shown(path))
    return found


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def command_paths() -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()

    def walk(group: object, path: tuple[str, ...]) -> None:
        for name, command in getattr(group, "commands", {}).items():
            found.add((*path, name))
            walk(command, (*path, name))

    walk(cli, ())
    return found


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each).strip().lower().replace(" ", "-") for each in headings}, (
                target
            )


def test_every_room_has_a_readme_that_contributors_are_led_to() -> None:
    page = (ROOT / "docs" / "contributors.md").read_text()
    assert len(rooms()) == 10
    assert [room for room in rooms() if f"[{room}](../{room}/README.md)" not in page] == []


@pytest.mark.parametrize("room", rooms())
def test_the_readme_of_a_room_names_all_of_its_files(room: str) -> None:
    told = set(re.findall(r"`(?:[a-z_]+/)*([a-z_0-9]+)(?:\.py)?`", (ROOT / room / "README.md").read_text()))
    in_all = {"migrations"} | ({"types", "inputs"} if room == "schema" else set())  # named by their folder
    there = {path.stem for path in (ROOT / room).rglob("*.py") if not in_all & set(path.parts)}
    assert there - told - {"__init__", "__main__"} == set(), "name them in the room's README"


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`((?:[a-z_0-9]+/)+[A-Za-z_0-9.-]+\.(?:py|toml|sql|lua|graphql|md|json|sh))`", page.read_text())
    for name in named:
        if "NNNN" in name:
            continue
        assert (ROOT / name).exists() or (page.parent / name).exists(), name


def test_shell_blocks_use_only_targets_and_commands_that_exist() -> None:
    targets, known = make_targets(), command_paths()
    used = 0
    for page, block in fences("sh"):
        for line in block.splitlines():
            words = re.sub(r"\s+#.*$", "", line).split()
            if words[:1] == ["make"]:
                used += 1
                assert words[1] in targets, (shown(page), line)
            elif words[:1] in (["tollgate"], [".venv/bin/tollgate"]):
                used += 1
                assert tuple(words[1:2]) in known, (shown(page), line)
                if words[1] == "catalog":
                    assert tuple(words[1:3]) in known, (shown(page), line)
    assert used >= 4


@pytest.mark.parametrize("page", pages(), ids=shown)
def test_targets_and_commands_in_running_text_exist(page: Path) -> None:
    text = page.read_text()
    not_built = {"admin", "simulate", "stripe", "soak", "reconcile"}
    for target in re.findall(r"`make ([a-z]+)", text):
        assert target in make_targets() | not_built, target
    for name in re.findall(r"`tollgate ([a-z]+)", text):
        assert (name,) in command_paths() or name in not_built, name


def test_the_two_commands_of_the_readme_are_there() -> None:
    blocks = [block for page, block in fences("sh") if page == ROOT / "README.md"]
    assert [line.split("#")[0].strip() for line in blocks[0].splitlines()] == ["make run", "make test"]


def test_the_readme_leads_to_every_page_of_the_documentation() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in sorted((ROOT / "docs").iterdir()) if f"](docs/{page.name}" not in readme] == []


def test_the_readme_is_understood_by_its_parsers() -> None:
    for _, block in fences("python"):
        ast.parse(block)
    from graphql import parse

    checked = [parse(block) for _, block in fences("graphql")]
    assert checked


def test_mutations_and_queries_in_the_documentation_are_valid() -> None:
    from graphql import build_schema, parse, validate

    schema = build_schema((ROOT / "schema" / "schema.graphql").read_text())
    for page, block in fences("graphql"):
        assert validate(schema, parse(block)) == [], shown(page)


def test_the_settings_table_is_that_of_the_code() -> None:
    text = OPERATORS.read_text()
    written = text[text.index(SETTINGS_BEGIN) + len(SETTINGS_BEGIN) : text.index(SETTINGS_END)]
    assert written == settings_table(), "run python -m tests.test_docs --write"


def test_the_truth_table_is_that_of_the_code() -> None:
    text = METERING.read_text()
    written = text[text.index(TRUTH_BEGIN) + len(TRUTH_BEGIN) : text.index(SETTINGS_END)]
    assert written == truth.table(), "run python -m tests.test_docs --write"


def test_the_table_of_errors_is_that_of_the_code() -> None:
    documented = set(
        re.findall(r"^\| (\d{3}) \| (\w+) \| (\w+) \|", (ROOT / "docs" / "partners.md").read_text(), re.MULTILINE)
    )
    failures = (
        BadRequest("x"),
        Unauthenticated("x"),
        Forbidden("x"),
        NotFound("x"),
        BodyTooLarge("x"),
        ThrottledRequest("x", 1, []),
        Unavailable("x"),
    )
    made = {(str(status), kind, code) for status, kind, code in openai_errors._REFUSALS.values()}
    for failure in failures:
        status, body, _ = openai_errors.of_failure(failure)
        made.add((str(status), body["error"]["type"], body["error"]["code"]))
    made.add(("405", "invalid_request_error", "method_not_allowed"))
    assert documented == made


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    from prometheus_client import REGISTRY

    import app.worker
    import billing.webhooks
    import gateway.metrics
    import metering.group_commit
    import metering.limiter

    modules = (app.worker, billing.webhooks, gateway.metrics, metering.group_commit, metering.limiter)
    assert all(modules)
    made = {}
    for family in REGISTRY.collect():
        if family.name.startswith(("tollgate_", "gen_ai_")):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            made[name] = (family.type, family.documentation)
    text = OPERATORS.read_text()
    table = text[text.index("<!-- metrics -->") : text.index("<!-- end metrics -->")]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|[^|]*\| (.+) \|$", table, re.MULTILINE)
    assert {name: (kind, meaning) for name, kind, meaning in rows} == made


def test_every_rule_stands_in_the_table_once_and_says_how_far_it_is() -> None:
    rows = ROW_OF_A_RULE.findall((ROOT / "docs" / "rules.md").read_text())
    assert [rule for rule, _, _ in rows] == RULES
    for rule, tests, state in rows:
        assert state.strip().startswith(("works", "data", "part", "not built", "the ledger's side")), rule
        if state.strip().startswith("works"):
            assert "`test_" in tests, rule


def test_every_test_that_the_table_of_rules_names_exists_and_every_test_named_after_a_rule_is_in_its_row() -> None:
    rows = {rule: set(re.findall(r"`(test_\w+)`", tests)) for rule, tests, _ in ROW_OF_A_RULE.findall((ROOT / "docs" / "rules.md").read_text())}  # fmt: skip
    existing = existing_tests()
    named = {name for names in rows.values() for name in names}
    assert named - existing.keys() == set()
    missing = {
        (rule, name)
        for name in existing
        for rule in re.findall(r"(?:^test|(?<=[0-9]))_([A-D][0-9]+)(?=_)", name)
        if rule in rows and name not in rows[rule]
    }
    assert missing == set()


def test_no_machine_path_and_no_registry_host_is_in_the_repository() -> None:
    words = [
        *("files.pythonhosted" + ".org", "pypi" + ".org/simple", "registry.npmjs" + ".org", "/work" + "/main", "/work" + "/shared"),
        *("/root/.py" + "env", "/opt" + "/pypi", "resolved" + '": "http', "--index" + "-url http", "/farm" + "/"),
    ]  # fmt: skip
    pattern = re.compile("|".join(map(re.escape, words)))
    for path in repository_files():
        if shown(path).startswith(BUILT_FROM_OTHERS):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        assert (hit := pattern.search(text)) is None, (shown(path), hit and hit[0])


def test_locks_that_record_addresses_are_not_in_the_repository() -> None:
    for path in repository_files():
        assert path.name not in {"uv.lock", "yarn.lock", "pnpm-lock.yaml", "poetry.lock"}
        assert path.name != "package-lock.json" or '"resolved"' not in path.read_text()
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert text.count("==") >= 20
        assert text.count("--hash=sha256:") > text.count("==")


def write() -> None:
    for page, mark, table in (
        (OPERATORS, SETTINGS_BEGIN, settings_table()),
        (METERING, TRUTH_BEGIN, truth.table()),
    ):
        text = page.read_text()
        begin, end = text.index(mark) + len(mark), text.index(SETTINGS_END)
        page.write_text(text[:begin] + table + text[end:])


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.test_docs --write")
    write()
