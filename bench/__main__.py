"""Runs the rows, A B A B …, on one real Kafka, and prints medians and the ratios of pairs.

`python -m bench [--quick] [--rows 100B,1000B] [--runs N] [--json FILE]`
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "kafka"))

from kafka_cluster import KafkaCluster  # noqa: E402 (the harness is not a package)

US, THEM = "penstock", "confluent-kafka"


class Row(NamedTuple):
    """One case: what is sent, and our settings for it (theirs are in `clients`)."""

    name: str
    title: str
    size: int
    count: int
    partitions: int
    options: dict[str, Any]


BEST = {"batch_size": 262_144, "buffer_memory": 64 << 20}
ROWS = [
    Row("100B", "100 B, no key, a future per record", 100, 2_000_000, 6, BEST),
    Row("100B-default", "100 B, Penstock at its default settings", 100, 2_000_000, 6, {}),
    Row("1000B", "1,000 B, no key, a future per record", 1000, 400_000, 6, BEST),
]


def run_once(client: str, row: Row, count: int, bootstrap: str, topic: str) -> dict[str, Any]:
    task = {
        "client": client,
        "bootstrap": bootstrap,
        "topic": topic,
        "count": count,
        "size": row.size,
        "options": row.options if client == US else {},
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.worker", json.dumps(task)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{client} failed:\n{done.stderr}")
    measured: dict[str, Any] = json.loads(done.stdout)
    if measured["failures"]:
        sys.exit(f"{client}: {measured['failures']} records failed")
    return measured


def run_row(row: Row, runs: int, scale: float, kafka: KafkaCluster) -> dict[str, Any]:
    """Interleaved runs; the first pair warms the broker and is not counted."""
    topic = f"bench-{row.name}-{int(time.time())}"
    kafka.create_topic(topic, partitions=row.partitions, config={"retention.bytes": str(256 << 20)})
    count = int(row.count * scale)
    results: dict[str, list[dict[str, Any]]] = {US: [], THEM: []}
    for number in range(runs + 1):
        for client in (US, THEM) if number % 2 else (THEM, US):
            measured = run_once(client, row, count, kafka.bootstrap_servers, topic)
            if number:
                results[client].append(measured)
            print(f"  {row.name} {number}/{runs} {client}: {measured['messages_per_s']:,.0f}/s", file=sys.stderr)
    return {"row": row.name, "title": row.title, "count": count, "size": row.size, "results": results}


def median(results: list[dict[str, Any]], figure: str) -> float:
    return statistics.median(result[figure] for result in results)


def ratio(done: dict[str, Any], figure: str) -> float:
    """The median of the ratios of pairs: what a drifting machine leaves comparable."""
    pairs = zip(done["results"][US], done["results"][THEM], strict=True)
    return statistics.median(ours[figure] / theirs[figure] for ours, theirs in pairs)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| case | client | messages/s | CPU µs/message | RSS MiB | messages/s ratio | CPU ratio |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for done in rows:
        for client in (US, THEM):
            results = done["results"][client]
            ratios = (
                f"{ratio(done, 'messages_per_s'):.2f}× | {ratio(done, 'cpu_us_per_message'):.2f}×"
                if client == US
                else " | "
            )
            lines.append(
                f"| {done['title']} | {client} {results[0]['version']} | {median(results, 'messages_per_s'):,.0f} "
                f"| {median(results, 'cpu_us_per_message'):.2f} | {median(results, 'rss_mib'):.0f} | {ratios} |"
            )
    return "\n".join(lines)


def machine() -> str:
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{os.cpu_count()} × {model}, Python {platform.python_version()}, one Apache Kafka 4.4 node on the same machine"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench", description="paired benchmark against confluent-kafka on a real Kafka"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs")
    parser.add_argument("--rows", default=os.environ.get("ROWS", ""), help="comma-separated names; default: all")
    parser.add_argument("--runs", type=int, default=0, help="counted pairs per row (default 5, quick 3)")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "latest.json")
    arguments = parser.parse_args()
    chosen = {name for name in arguments.rows.split(",") if name}
    rows = [row for row in ROWS if not chosen or row.name in chosen]
    runs = arguments.runs or (3 if arguments.quick else 5)
    with KafkaCluster(nodes=1, heap_mb=1024) as kafka:
        done = [run_row(row, runs, 0.25 if arguments.quick else 1.0, kafka) for row in rows]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine(), "runs": runs, "rows": done}
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\n{machine()}; medians of {runs} interleaved pairs, ratios are medians of pairs\n\n{table(done)}")


if __name__ == "__main__":
    main()
