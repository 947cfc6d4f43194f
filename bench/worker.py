"""One run of one contestant in a fresh process: `python -m bench.worker <JSON>` prints its measurements as JSON."""

from __future__ import annotations

import json
import resource
import sys

from bench.clients import CLIENTS


def main() -> None:
    task = json.loads(sys.argv[1])
    run = CLIENTS[task["client"]]
    outcome = run(task["bootstrap"], task["topic"], task["count"], task["size"], **task["options"])
    rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "messages_per_s": task["count"] / outcome.seconds,
                "cpu_us_per_message": outcome.cpu_seconds / task["count"] * 1e6,
                "rss_mib": rss_kib / 1024,
                "failures": outcome.failures,
                "version": outcome.version,
                "settings": outcome.settings,
            }
        )
    )


if __name__ == "__main__":
    main()
