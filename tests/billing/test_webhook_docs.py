"""docs/webhooks.md tells the events, the retries and the signature as the code has them.

`python -m tests.billing.test_webhook_docs --write` writes its tables anew.
"""

import ast
import re
import sys
from pathlib import Path

from billing.event_kinds import CATALOGUE, EventKind
from billing.rules.standard_webhooks import is_genuine, signed_headers
from billing.rules.webhook_retries import PAUSES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "webhooks.md"
BEGIN, END = "<!-- events: written by python -m tests.billing.test_webhook_docs --write -->\n", "<!-- end -->"


def catalogue() -> str:
    rows = ["| `type` | in GraphQL | when | `data` |", "| --- | --- | --- | --- |"]
    for kind, terms in CATALOGUE.items():
        facts = ", ".join(f"`{name}` ({meaning})" for name, meaning in terms.facts.items())
        rows.append(f"| `{kind.value}` | `{kind.name}` | {terms.meaning} | {facts} |")
    return "\n".join(rows) + "\n"


def written() -> str:
    text = PAGE.read_text()
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


def test_every_event_is_in_the_catalogue() -> None:
    assert set(CATALOGUE) == set(EventKind)


def test_the_page_has_the_catalogue_of_the_code() -> None:
    assert written() == catalogue(), "run python -m tests.billing.test_webhook_docs --write"


def test_the_page_tells_the_pauses_of_the_code() -> None:
    hours = [int(text) for text in re.findall(r"(\d+) h\b", PAGE.read_text())]
    minutes = [int(text) for text in re.findall(r"(\d+) min\b", PAGE.read_text())]
    seconds = [int(text) for text in re.findall(r"(\d+) s\b", PAGE.read_text())]
    assert [*seconds, *(each * 60 for each in minutes), *(each * 3600 for each in hours)] == [
        int(pause.total_seconds()) for pause in PAUSES
    ]


def test_the_receiver_shown_on_the_page_takes_what_we_sign_and_nothing_else() -> None:
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(ast.parse(program), "webhooks.md", "exec"), names)
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"type":"balance.low"}'
    headers = signed_headers([names["key_of"](secret)], "evt_1", 1_000, body)
    assert names["is_genuine"](secret, headers, body, 1_100)
    assert is_genuine(names["key_of"](secret), headers, body, 1_100)
    assert not names["is_genuine"](secret, headers, body + b" ", 1_100)
    assert not names["is_genuine"](secret, headers, body, 1_400)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.billing.test_webhook_docs --write")
    page = PAGE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    PAGE.write_text(page[:begin] + catalogue() + page[end:])
