"""The control: the product with one change, that it believes whatever usage a provider reported last."""

import sys

import gateway.metered
from app.cli import main
from gateway.rules.truth import Seen, verdict


def believing(end, seen, shape, bound, provider):
    return verdict(end, Seen(seen.usage, seen.content_bytes, 0), shape, bound, provider)


if __name__ == "__main__":
    gateway.metered.verdict = believing
    sys.exit(main())
