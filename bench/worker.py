"""One run of one contestant in a fresh process: `python -m bench.worker MODULE:FUNCTION TASK` prints its measurement as JSON."""

from __future__ import annotations

import importlib
import json
import resource
import sys

from bench.contestants.common import NotHereError


def main() -> None:
    module, _, function = sys.argv[1].partition(":")
    contestant = getattr(importlib.import_module(f"bench.contestants.{module}"), function)
    try:
        measured = contestant(json.loads(sys.argv[2]))
    except NotHereError as why:
        measured = {"not_run": str(why)}
    else:
        # Linux counts ru_maxrss in KiB.
        measured["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
