"""The control: the product with one change, that it believes whatever usage a provider reported last, whatever came."""

import sys

import gateway.metered
from app.cli import main
from gateway.rules.truth import Seen, verdict


def believing(end, seen, shape, bound, provider):
    return verdict(end, seen if seen.usage is None else Seen(seen.usage), shape, bound, provider)


if __name__ == "__main__":
    gateway.metered.verdict = believing
    sys.exit(main())
