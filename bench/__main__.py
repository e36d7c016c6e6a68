"""Every benchmark, one after another: `make bench`, or some by name: `make bench ARGS="ledger gateway"`."""

import argparse
import subprocess
import sys
import time

from tests.processes import ROOT

BENCHES = {
    "limiter": "decisions beside a bare PING through the same client",
    "ledger": "hold and settle beside a transaction per call through the ORM, and beside bulk inserts of the same rows",
    "history": "the ledger with millions of old rows beside an empty one",
    "upstream_client": "our HTTP client beside aiohttp",
    "gateway": "whole metered calls beside the upstream called directly",
    "first_token": "the first token of a stream beside the upstream called directly, and beside one hold's commit",
    "profile": "where the CPU time of a whole call goes, by part, function and line",
    "auth": "the share of authentication in a call",
    "graphql": "the GraphQL edge beside Strawberry's own view and a handler by hand",
    "usage_report": "a year's report by day and model over millions of usage events",
}
QUICK = {
    "limiter": ["--rounds", "3"],
    "ledger": ["--rounds", "2", "--pairs", "3000", "--concurrency", "1", "64"],
    "history": ["--rows", "200000", "--rounds", "3", "--pairs", "2000"],
    "upstream_client": ["--rounds", "1", "--calls", "3000"],
    "gateway": ["--rounds", "1", "--connections", "64"],
    "first_token": ["--rounds", "3", "--seconds", "0.5"],
    "profile": ["--seconds", "5", "--most", "15"],
    "auth": ["--rounds", "2"],
    "usage_report": ["--events", "200000", "--rounds", "5"],
}
"""Options for a first look: a minute or two in all, and figures that scatter."""


def main() -> int:
    """0 when every benchmark ran; each prints its own table."""
    listed = "\n".join(f"  {name:16} {what}" for name, what in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__}\n\n{listed}\n\nEach takes options of its own: python -m bench.NAME --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which to run; all of them without a name")
    parser.add_argument(
        "--quick", action="store_true", help="fewer and shorter rounds: a first look, not for comparing"
    )
    options = parser.parse_args()
    names = options.names or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHES)}")
    failed: list[str] = []
    for number, name in enumerate(names, start=1):
        print(f"\n## {name}: {BENCHES[name]} ({number} of {len(names)})\n", flush=True)
        began = time.monotonic()
        more = QUICK.get(name, []) if options.quick else []
        if subprocess.run([sys.executable, "-m", f"bench.{name}", *more], cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"\n({time.monotonic() - began:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
