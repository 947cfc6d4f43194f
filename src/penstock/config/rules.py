"""Rules between settings, and the addresses in bootstrap.servers.

The rules are those of Java's `ProducerConfig.postProcessParsedConfig`, `KafkaProducer` and `ClientUtils`.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock._log import log_line
from penstock.errors import ConfigError

_log: Final = logging.getLogger("penstock.config")

INT_MAX: Final = 2**31 - 1
_MAX_IN_FLIGHT_IF_IDEMPOTENT: Final = 5  # a broker remembers this many batches per producer and partition

_MAX_STRING: Final = 2**15 - 1

_client_numbers: Final = itertools.count(1)

# As Java's Utils.getHost and getPort: an optional scheme is ignored, an IPv6 address may or may not be in brackets.
_ADDRESS: Final = re.compile(r"(?:[0-9a-zA-Z\-%._]*://)?\[?([0-9a-zA-Z\-%._:]*)\]?:([0-9]+)")


def parse_bootstrap_servers(servers: Iterable[str]) -> list[tuple[str, int]]:
    """Each "host:port" as a pair, in order; no name is resolved.

    As Java's `ClientUtils`, except that an empty host and port 0 are refused: no connection to them is possible.

    Raises:
        ConfigError: an entry is malformed, or the list is empty.
    """
    addresses: list[tuple[str, int]] = []
    for server in servers:
        match = _ADDRESS.fullmatch(server) if isinstance(server, str) else None
        if match is None or not match[1]:
            raise ConfigError(
                f"bootstrap.servers: {server!r} is not host:port, such as localhost:9092 or [::1]:9092",
                setting="bootstrap.servers",
            )
        digits = match[2].lstrip("0")
        if not (0 < len(digits) <= 5 and int(digits) < 65536):
            raise ConfigError(
                f"bootstrap.servers: the port of {server!r} is not within 1 to 65535", setting="bootstrap.servers"
            )
        addresses.append((match[1], int(digits)))
    if not addresses:
        raise ConfigError("bootstrap.servers is empty: name at least one host:port", setting="bootstrap.servers")
    return addresses


def bootstrap_addresses(values: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """The bootstrap servers of a configuration; raises `ConfigError` as `parse_bootstrap_servers`, and for none."""
    servers = values["bootstrap.servers"]
    if servers is None:
        raise ConfigError(
            "bootstrap.servers is missing: name at least one broker, such as localhost:9092",
            setting="bootstrap.servers",
        )
    return tuple(parse_bootstrap_servers(servers))


def apply_rules(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Adjust `values` as Java does; `given` are those that the user gave. Raises `ConfigError` if they contradict."""
    _rule_backoff(values, given)
    if "batch.size" in given and "penstock.batch.linger.bytes" not in given:
        values["penstock.batch.linger.bytes"] = 0  # it is the size that is worth sending at once
    _rule_idempotence(values, given)
    _rule_delivery_timeout(values, given)
    _rule_strings_in_requests(values)
    if "client.id" not in given:
        values["client.id"] = f"producer-{next(_client_numbers)}"


def _rule_backoff(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    if "reconnect.backoff.ms" in given and "reconnect.backoff.max.ms" not in given:
        values["reconnect.backoff.max.ms"] = values["reconnect.backoff.ms"]
        log_line(
            _log,
            logging.INFO,
            "reconnect backoff does not grow: reconnect.backoff.ms is given and reconnect.backoff.max.ms is not",
        )
    pairs = (
        ("retry.backoff.ms", "retry.backoff.max.ms"),
        ("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms"),
    )
    for first, most in pairs:
        if values[first] > values[most]:
            log_line(
                _log, logging.WARNING, "%s = %s is above %s = %s, which holds", first, values[first], most, values[most]
            )


def _rule_idempotence(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Given, idempotence refuses conflicting settings. By default, acks and retries switch it off, but in-flight does not."""
    if values["acks"] == "all":
        values["acks"] = "-1"
    if values["enable.idempotence"]:
        obstacles = [f"acks = {values['acks']} (it needs all)"] if values["acks"] != "-1" else []
        obstacles += ["retries = 0"] if values["retries"] == 0 else []
        if obstacles and "enable.idempotence" in given:
            raise ConfigError(
                f"enable.idempotence is true, which is not possible with {' and '.join(obstacles)}",
                setting="enable.idempotence",
            )
        in_flight = values["max.in.flight.requests.per.connection"]
        if in_flight > _MAX_IN_FLIGHT_IF_IDEMPOTENT:
            raise ConfigError(
                f"max.in.flight.requests.per.connection = {in_flight} is above {_MAX_IN_FLIGHT_IF_IDEMPOTENT}, the "
                "most that idempotence allows; lower it, or set enable.idempotence to false",
                setting="max.in.flight.requests.per.connection",
            )
        if obstacles:
            log_line(
                _log,
                logging.INFO,
                "idempotence is off because of %s: retries may duplicate records",
                " and ".join(obstacles),
            )
            values["enable.idempotence"] = False


def _rule_strings_in_requests(values: Mapping[str, Any]) -> None:
    """Strings in requests must fit the protocol: UTF-8, with a length of 16 bits.

    Java does not check this: there the first request fails, and is retried until max.block.ms has passed.
    """
    for name in ("client.id", "client.rack", "transactional.id"):
        text = values[name]
        if text is None:
            continue
        try:
            length = len(text.encode())
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{name} = {_shortened(text)}: it cannot be written in UTF-8 ({error.reason} at position {error.start});"
                " use valid text",
                setting=name,
            ) from error
        if length > _MAX_STRING:
            raise ConfigError(
                f"{name} = {_shortened(text)}: it takes {length} bytes in UTF-8, and a request has room for"
                f" {_MAX_STRING}; use a shorter one",
                setting=name,
            )


def _shortened(text: str) -> str:
    return repr(text) if len(text) <= 50 else f"{text[:50]!r}…"


def _rule_delivery_timeout(values: dict[str, Any], given: Mapping[str, Any]) -> None:
    needed = min(min(values["linger.ms"], INT_MAX) + values["request.timeout.ms"], INT_MAX)
    if values["delivery.timeout.ms"] >= needed:
        return
    if "delivery.timeout.ms" in given:
        raise ConfigError(
            f"delivery.timeout.ms = {values['delivery.timeout.ms']} is below linger.ms + request.timeout.ms = {needed}"
            ": a record could expire before its first request does",
            setting="delivery.timeout.ms",
        )
    log_line(_log, logging.WARNING, "delivery.timeout.ms is raised to linger.ms + request.timeout.ms = %d", needed)
    values["delivery.timeout.ms"] = needed
