"""`python -m tests.faults`: faults on both sides of two gateways, then every debit derived from the providers' log."""

import argparse
import asyncio
import os
import random
import sys

from tests.faults.audit import NOT_DERIVABLE
from tests.faults.harness import Options, Result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="replays the calls and faults of this seed")
    parser.add_argument("--clients", type=int, default=32, help="calls at once")
    parser.add_argument("--warm-up", type=int, default=None, help="calls before memory is first looked at; a fifth")
    parser.add_argument("--control", action="store_true", help="gateways that charge carelessly: the audit must see it")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory with its logs")
    parser.add_argument("--nice", type=int, default=5, help="niceness of all its processes")
    given = parser.parse_args()
    os.nice(given.nice)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    warm_up = given.calls // 5 if given.warm_up is None else given.warm_up
    print(f"seed {seed}", file=sys.stderr, flush=True)
    options = Options(given.calls, seed, given.clients, warm_up, given.keep, given.control)
    return judged(asyncio.run(run(options, lambda text: print(text, file=sys.stderr, flush=True))))


def judged(result: Result) -> int:
    """Print the figures; 0 when all is as it must be."""
    findings, options = result.findings, result.options
    for name, value in sorted(findings.figures.items()):
        print(f"{name:70} {value:>10,}")
    print(f"\n{options.warm_up:,} and {options.calls:,} calls in {result.seconds:.0f} s")
    for number, (before, after) in enumerate(zip(result.before, result.after, strict=True)):
        print(f"gateway {number}: {before} became {after}")
    for kind, examples in findings.broken.items():
        print(f"\nBROKEN {kind}: {findings.counts[kind]:,}")
        print("\n".join(f"  {example}" for example in examples))
    for leak in result.leaks:
        print(f"\nLEFT OVER {leak}")
    for fault in result.faults[:20]:
        print(f"logged: {fault}")
    if options.control:
        caught = findings.counts[NOT_DERIVABLE]
        print(f"\nthe control charged {caught:,} calls wrongly" if caught else "\nNOT CAUGHT: no wrong charge was seen")
        return 0 if caught else 1
    if result.clean:
        print("\nevery debit follows from the providers' log; nothing is left over")
        return 0
    print(
        f"\nreplay with: python -m tests.faults --calls {options.calls} --warm-up {options.warm_up} --seed {options.seed}"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
