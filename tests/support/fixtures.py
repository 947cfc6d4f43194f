"""Types of the shared fixtures, for the tests that use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class TopicFactory(Protocol):
    """Creates a topic for one test and returns its name."""

    def __call__(
        self, partitions: int = 1, *, replication_factor: int = 1, config: Mapping[str, str] | None = None
    ) -> str: ...
