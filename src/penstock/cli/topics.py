"""`penstock topics`: list, describe, create, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from penstock.cli.admin import Admin
from penstock.cli.options import Json, pairs
from penstock.cli.output import CommandError, complain, print_json, print_line, print_rows
from penstock.cli.target import Bootstrap, Dev, bootstrap_servers
from penstock.errors import error_name

app = typer.Typer(help="List, describe, create and delete topics.", no_args_is_help=True)


@contextmanager
def _admin(bootstrap: str | None, dev: str | None) -> Iterator[Admin]:
    with bootstrap_servers(bootstrap, dev) as servers:
        admin = Admin(servers)
        try:
            yield admin
        finally:
            admin.close()


@app.command("list")
def list_topics(bootstrap: Bootstrap = None, dev: Dev = None, json: Json = False) -> None:
    """List topics: name, partitions, replication factor."""
    with _admin(bootstrap, dev) as admin:
        topics = admin.topics()
    rows = [
        (topic.name, len(topic.partitions), max((len(part.replica_nodes) for part in topic.partitions), default=0))
        for topic in topics
    ]
    if json:
        for name, partitions, replicas in rows:
            print_json({"name": name, "partitions": partitions, "replication_factor": replicas})
    else:
        print_rows(("topic", "partitions", "replicas"), rows)


@app.command()
def describe(
    topic: Annotated[str, typer.Argument(help="Its name.")],
    bootstrap: Bootstrap = None,
    dev: Dev = None,
    json: Json = False,
) -> None:
    """Describe a topic: leader, replicas and in-sync replicas of each partition, and the topic's own settings."""
    with _admin(bootstrap, dev) as admin:
        found = admin.topic(topic)
        configs = {config.name: config.value for config in admin.topic_configs(topic)}
    partitions = sorted(found.partitions, key=lambda part: part.partition_index)
    if json:
        described = [
            {
                "partition": part.partition_index,
                "leader": part.leader_id if part.leader_id >= 0 else None,
                "replicas": part.replica_nodes,
                "in_sync": part.isr_nodes,
                "error": error_name(part.error_code) if part.error_code else None,
            }
            for part in partitions
        ]
        print_json({"name": topic, "id": str(found.topic_id), "partitions": described, "configs": configs})
        return
    rows = [
        (
            part.partition_index,
            part.leader_id if part.leader_id >= 0 else "none",
            ",".join(map(str, part.replica_nodes)),
            ",".join(map(str, part.isr_nodes)),
        )
        for part in partitions
    ]
    print_rows(("partition", "leader", "replicas", "in sync"), rows)
    for name, value in sorted(configs.items()):
        print_line(f"{name}={value}")


@app.command()
def create(
    topic: Annotated[str, typer.Argument(help="Its name.")],
    partitions: Annotated[int, typer.Option("--partitions", "-p", help="-1: the broker's default.")] = -1,
    replicas: Annotated[int, typer.Option("--replication-factor", "-r", help="-1: the broker's default.")] = -1,
    configs: Annotated[
        list[str] | None, typer.Option("--config", "-c", metavar="NAME=VALUE", help="A setting; repeatable.")
    ] = None,
    bootstrap: Bootstrap = None,
    dev: Dev = None,
) -> None:
    """Create a topic."""
    settings = pairs("-c", configs)
    with _admin(bootstrap, dev) as admin:
        admin.create(topic, partitions, replicas, dict(settings))
    complain(f"created topic {topic}")


@app.command()
def delete(
    topics: Annotated[list[str], typer.Argument(help="Their names.")],
    bootstrap: Bootstrap = None,
    dev: Dev = None,
) -> None:
    """Delete topics and all their records."""
    with _admin(bootstrap, dev) as admin:
        failed = admin.delete(topics)
    for topic in topics:
        if topic not in failed:
            complain(f"deleted topic {topic}")
    if failed:
        raise CommandError("\n".join(map(str, failed.values())))
