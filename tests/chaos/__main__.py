"""`python -m tests.chaos`: loads, kills, audits; exit code 1 when anything was lost, doubled or overdrawn."""

import argparse
import asyncio
import os
import random
import sys

from kit.money import format_micro
from tests.chaos.audit import LOST_DEBIT
from tests.chaos.harness import Options, Result, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None, help="replays the run of this seed; random when not given")
    parser.add_argument("--workers", type=int, default=2, help="gateway processes")
    parser.add_argument("--clients", type=int, default=32, help="concurrent clients")
    parser.add_argument("--seconds", type=float, default=3600.0, help="no new calls after this time")
    parser.add_argument("--leavers", type=int, default=500, help="clients that leave in the middle, at the end")
    parser.add_argument("--control", action="store_true", help="a gateway that settles late: the audit must catch it")
    parser.add_argument("--keep", action="store_true", help="keep the run's directory with its logs")
    parser.add_argument("--nice", type=int, default=5, help="niceness of all its processes")
    given = parser.parse_args()
    if given.calls < 200 or given.kills < 0 or given.workers < 1:
        parser.error("at least 200 calls and one worker")
    os.nice(given.nice)
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(2**31)
    options = Options(
        given.calls,
        given.kills,
        seed,
        given.workers,
        given.clients,
        given.seconds,
        given.leavers,
        given.control,
        given.keep,
    )
    say(f"seed {seed}")
    return judged(asyncio.run(run(options, say)))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def judged(result: Result) -> int:
    """Print the figures; 0 when all is as it must be."""
    options, findings = result.options, result.findings
    for name, value in sorted(findings.figures.items()):
        print(f"{name:60} {value:>10,}")
    killed = ", ".join(f"{count} {victim}" for victim, count in result.killed.items())
    print(
        f"\n{result.made:,} calls in {result.seconds:.0f} s, killed: {killed}; {format_micro(findings.charged_micro)} credits charged"
    )
    for kind, examples in findings.broken.items():
        print(f"\nBROKEN {kind}: {findings.counts[kind]:,}")
        print("\n".join(f"  {example}" for example in examples))
    for attempt in result.burst_failures[:8]:
        print(f"\nBROKEN in the burst after clients left: {attempt}")
    for fault in result.faults[:20]:
        print(f"logged: {fault}")
    if options.control:
        caught = findings.counts[LOST_DEBIT]
        print(
            f"\nthe control lost {caught:,} debits"
            if caught
            else "\nNOT CAUGHT: the control lost no debit that was seen"
        )
        return 0 if caught else 1
    if result.clean:
        print("\nnothing lost, nothing doubled, nothing overdrawn")
        return 0
    print(
        f"\nreplay with: python -m tests.chaos --calls {options.calls} --kills {options.kills} --seed {options.seed}"
        f" --workers {options.gateways} --clients {options.clients} --leavers {options.leavers}"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
