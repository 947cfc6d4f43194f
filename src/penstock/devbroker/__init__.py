"""An embedded Kafka broker for development, tests and demos.

For producers and for consumers of assigned partitions, it behaves like Kafka in daily use. It is one Python process and
has no consumer groups, no transactions, no replication, no security (every client that can connect has full access),
no quotas, no compaction, no retention by time and no tiered storage. `docs/devbroker.md` has the whole list.

    with DevCluster.running(nodes=3) as cluster:
        cluster.create_topic("orders", partitions=12)
        ...                                              # a client for cluster.bootstrap_servers
        cluster.faults.add(api="Produce", error=19)      # once: NOT_ENOUGH_REPLICAS
"""

from penstock.devbroker.cluster import DevCluster
from penstock.devbroker.disk import DataFolderError
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Fault, Faults, Requests, SeenRequest
from penstock.devbroker.running import RunningCluster
from penstock.devbroker.serve import serve

__all__ = [
    "DataFolderError",
    "DevCluster",
    "ErrorCode",
    "Fault",
    "Faults",
    "RequestError",
    "Requests",
    "RunningCluster",
    "SeenRequest",
    "serve",
]
