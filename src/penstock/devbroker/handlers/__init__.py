"""One file per API: its versions, its answer, and the simplifications against Kafka."""

from collections.abc import Mapping
from typing import Final

from penstock.devbroker.context import Handler
from penstock.devbroker.handlers import (
    api_versions,
    create_partitions,
    create_topics,
    delete_topics,
    describe_cluster,
    describe_configs,
    fetch,
    find_coordinator,
    init_producer_id,
    list_offsets,
    metadata,
    offset_for_leader_epoch,
    produce,
)

HANDLERS: Final[Mapping[int, Handler]] = {
    module.API.api.key: module.API
    for module in (
        produce,
        fetch,
        list_offsets,
        metadata,
        find_coordinator,
        api_versions,
        create_topics,
        delete_topics,
        init_producer_id,
        offset_for_leader_epoch,
        describe_configs,
        create_partitions,
        describe_cluster,
    )
}
