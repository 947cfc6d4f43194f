"""`python -m simulation SEEDS`: run seeds and print the results; exits 1 if a guarantee was broken.

SEEDS: a number, or FIRST:LAST (LAST not included). One seed that fails is run again with its trace printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from penstock.protocol.records import CODECS
from simulation.plan import TEMPERS
from simulation.run import simulate


def main() -> int:
    """Run the seeds or mutants of the command line."""
    parser = argparse.ArgumentParser(prog="simulation", description="Run seeds of the deterministic simulation.")
    parser.add_argument("seeds", help="a number, or FIRST:LAST")
    parser.add_argument("--temper", choices=TEMPERS, help="only this kind of fault")
    parser.add_argument("--compression", choices=CODECS, help="compression.type, instead of a random one")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first broken guarantee")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition(":")
    seeds = range(int(first), int(last) if last else int(first) + 1)
    began, outcomes, failed, virtual_s = time.monotonic(), Counter[str](), [], 0.0
    for seed in seeds:
        result = simulate(seed, temper=arguments.temper, compression=arguments.compression, keep_trace=arguments.trace)
        outcomes.update(result.verdict.outcomes)
        virtual_s += result.virtual_s
        if arguments.trace:
            print("\n".join(result.trace))
        if not result.ok or len(seeds) == 1:
            print(result, flush=True)
        if not result.ok:
            failed.append(seed)
            if not arguments.keep_going:
                break
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items()))
    took = time.monotonic() - began
    print(
        f"{len(seeds)} seeds in {took:.1f} s ({virtual_s:,.0f} s of virtual time): {counts}; failed: {failed or 'none'}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
