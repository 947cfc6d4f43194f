"""A real Kafka in the foreground, for experiments: `python tools/kafka/run.py [--nodes N] [--port P] [--data-dir DIR]`."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from types import FrameType

import kafka_artifacts
from kafka_cluster import KafkaCluster, KafkaStartError
from kafka_wire import WireError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py", description="Run a real Apache Kafka in the foreground.")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="size of the cluster (default 1)")
    parser.add_argument("--port", type=int, metavar="P", help="client port of the first node (default: a free one)")
    parser.add_argument("--data-dir", metavar="DIR", help="keep the data here (default: a temporary folder)")
    parser.add_argument("--topic", action="append", default=[], metavar="NAME[:PARTITIONS]", help="create a topic")
    parser.add_argument("--auto-create", action="store_true", help="create topics automatically")
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)  # `kill` stops the nodes in order, as Ctrl-C does
    config = {"auto.create.topics.enable": "true"} if arguments.auto_create else {}
    cluster = KafkaCluster(arguments.nodes, arguments.data_dir, port=arguments.port, config=config)
    print(f"starting Apache Kafka {kafka_artifacts.kafka_version()} …", file=sys.stderr)
    began = time.monotonic()
    try:
        with cluster:
            for topic in arguments.topic:
                name, _, partitions = topic.partition(":")
                cluster.create_topic(name, int(partitions or 1), min(3, arguments.nodes))
            print(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops it", file=sys.stderr)
            print(cluster.bootstrap_servers, flush=True)
            for node in cluster.nodes.values():
                while not node.wait(timeout_s=3600):
                    pass
                print(f"node {node.node_id} ended by itself:\n{node.log_tail()}", file=sys.stderr)
                return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
    except (KafkaStartError, WireError, kafka_artifacts.MissingToolError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
