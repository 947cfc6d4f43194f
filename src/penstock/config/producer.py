"""`ProducerConfig`: names and values, read, checked and resolved; and the listing of all settings."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Self, Unpack

from penstock._log import say
from penstock.config import properties
from penstock.config.definition import HIDDEN, OneOfIgnoringCase, Password, Setting
from penstock.config.options import ProducerOptions
from penstock.config.rules import INT_MAX, apply_rules, bootstrap_addresses
from penstock.config.support import ELSEWHERE, JAVA_CLASSES, JAVA_CLASSES_REFUSED, JAVA_PACKAGES, Status, support
from penstock.config.table import SETTINGS
from penstock.errors import ConfigError

_log: Final = logging.getLogger("penstock.config")

_BY_NAME: Final = {setting.name: setting for setting in SETTINGS}
_BY_KEYWORD: Final = {name.replace(".", "_"): name for name in _BY_NAME}
_CLASSES: Final = frozenset(("interceptor.classes", *(setting.name for setting in SETTINGS if setting.type == "CLASS")))


class ProducerSettings(NamedTuple):
    """The values that the producer works with: names are Kafka's with underscores, times milliseconds, sizes bytes.

    They are the configuration's after all rules, with these readings: `acks` is -1 (all), 0 or 1; `batch_size` at least
    1; `compression_level` is that of the codec in use; `linger_ms` at most 2³¹-1; `metadata_recovery_strategy` lower
    case; `bootstrap_servers` normalised to "host:port"
    ("[address]:port" for IPv6), and the same as pairs in `bootstrap_addresses`.
    """

    acks: int
    batch_size: int
    bootstrap_addresses: tuple[tuple[str, int], ...]
    bootstrap_resolve_timeout_ms: int
    bootstrap_servers: tuple[str, ...]
    buffer_memory: int
    client_dns_lookup: str
    client_id: str
    client_rack: str
    compression_level: int
    compression_type: str
    connections_max_idle_ms: int
    delivery_timeout_ms: int
    enable_idempotence: bool
    interceptor_classes: tuple[Any, ...]
    key_serializer: Any
    linger_ms: int
    max_block_ms: int
    max_in_flight_requests_per_connection: int
    max_request_size: int
    metadata_cluster_check_enable: bool
    metadata_max_age_ms: int
    metadata_max_idle_ms: int
    metadata_recovery_rebootstrap_trigger_ms: int
    metadata_recovery_strategy: str
    metrics_num_samples: int
    metrics_recording_level: str
    metrics_sample_window_ms: int
    partitioner_adaptive_partitioning_enable: bool
    partitioner_availability_timeout_ms: int
    partitioner_class: Any
    partitioner_ignore_keys: bool
    partitioner_rack_aware: bool
    receive_buffer_bytes: int
    reconnect_backoff_max_ms: int
    reconnect_backoff_ms: int
    request_timeout_ms: int
    retries: int
    retry_backoff_max_ms: int
    retry_backoff_ms: int
    send_buffer_bytes: int
    socket_connection_setup_timeout_max_ms: int
    socket_connection_setup_timeout_ms: int
    value_serializer: Any


class ProducerConfig(Mapping[str, Any]):
    """A checked configuration: every name of Kafka's producer with its value, after Java's own adjustments.

    Args:
        config: names (dotted, or with underscores) and values; values may be text, as in a `.properties` file.
        options: the same names with underscores; they win over `config`.

    None is the same as leaving a name out where None is its default. Lists are tuples, secrets are `Password`, classes
    are resolved. The representation shows what was given, secrets hidden.

    Raises:
        ConfigError: a name is unknown or not supported, a value of the wrong type or out of range, or settings are at
            odds with one another (the rules of Java's `ProducerConfig` and `KafkaProducer`).
    """

    __slots__ = ("_given", "_settings", "_values")

    _given: Mapping[str, Any]
    _values: Mapping[str, Any]
    _settings: ProducerSettings

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        /,
        *,
        key_serializer: object = None,
        value_serializer: object = None,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Read and judge; the only effects are log lines."""
        keywords: dict[str, Any] = dict(options)
        if key_serializer is not None:
            keywords["key_serializer"] = key_serializer
        if value_serializer is not None:
            keywords["value_serializer"] = value_serializer
        if isinstance(config, ProducerConfig) and not keywords:
            # The same configuration, client id included, and nothing is logged twice.
            self._given, self._values, self._settings = config._given, config._values, config._settings
            return
        raw = dict(config._given) if isinstance(config, ProducerConfig) else _named(config or {})
        raw |= _named(keywords)
        read = {name: _read(name, value) for name, value in raw.items()}
        given = {name: value for name, value in read.items() if value is not None}
        values = {setting.name: setting.default for setting in SETTINGS} | given
        addresses = bootstrap_addresses(values)
        apply_rules(values, given)
        self._given, self._values, self._settings = given, values, _settings(values, addresses)

    @classmethod
    def from_properties(
        cls,
        path: str | os.PathLike[str],
        /,
        *,
        key_serializer: object = None,
        value_serializer: object = None,
        **options: Unpack[ProducerOptions],
    ) -> Self:
        """Read a Java `.properties` file, Java's names of serializers and partitioners included; keywords win.

        The file may be UTF-8 or, as Java assumes, ISO-8859-1.

        Raises:
            ConfigError: as the constructor, and for a malformed Unicode escape, with its line.
            OSError: the file cannot be read.
        """
        with open(path, "rb") as file:
            text = properties.decode(file.read())
        try:
            entries = properties.parse(text)
        except ValueError as error:
            raise ConfigError(f"{os.fspath(path)}: {error}") from error
        try:
            return cls(entries, key_serializer=key_serializer, value_serializer=value_serializer, **options)
        except ConfigError as error:
            error.add_note(f"(reading {os.fspath(path)})")
            raise

    @property
    def settings(self) -> ProducerSettings:
        """The values with types, for the code that works with them."""
        return self._settings

    @property
    def given(self) -> Mapping[str, Any]:
        """What was given rather than left at its default, dotted names, parsed."""
        return dict(self._given)

    def __getitem__(self, name: str) -> Any:
        """The value of a dotted name; `KeyError` for one that Kafka's producer does not know."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """All dotted names, sorted."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many names Kafka's producer knows."""
        return len(self._values)

    def __repr__(self) -> str:
        """What was given; secrets are hidden."""
        return f"ProducerConfig({dict(self._given)!r})"


class ConfigRow(NamedTuple):
    """One line of `penstock config`."""

    name: str
    type: str
    default: str
    importance: str
    valid: str
    status: Status
    default_honoured: bool
    note: str


def describe() -> Iterator[ConfigRow]:
    """All settings by name: what Kafka knows of them, and what Penstock makes of them.

    `default_honoured` is False where even the default promises something that Penstock does not do yet.
    """
    for setting in SETTINGS:
        status, note, _, honoured = support(setting.name)
        valid = str(setting.validator) if setting.validator is not None else ""
        default = "(required)" if setting.name == "bootstrap.servers" else _as_text(setting.default)
        yield ConfigRow(setting.name, setting.type, default, setting.importance, valid, status, honoured, note)


def _as_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


# --- Names ---


def _named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted names, whatever form they were given in."""
    named: dict[str, Any] = {}
    for written, value in given.items():
        if not isinstance(written, str):
            raise ConfigError(f"the name of a setting must be a str, not {type(written).__name__}: {written!r}")
        name = written if written in _BY_NAME else _BY_KEYWORD.get(written)
        if name is None:
            raise ConfigError(f"unknown setting {written!r}: {_advice(written)}", setting=written)
        if name in named:
            raise ConfigError(f"given twice, as {name} and as {name.replace('.', '_')}", setting=name)
        named[name] = value
    return named


def _advice(written: str) -> str:
    dotted = written.replace("_", ".")
    known = ELSEWHERE.get(written) or ELSEWHERE.get(dotted)
    if known:
        return known
    import difflib  # only ever needed here, and slow to import

    near = difflib.get_close_matches(dotted.lower(), _BY_NAME, n=1, cutoff=0.6)
    if not near:
        return "Kafka's producer has none like it; `penstock config` lists them all"
    return f"did you mean {near[0] if '.' in written else near[0].replace('.', '_')}?"


# --- One value ---


def _read(name: str, value: Any) -> Any:
    """The value, parsed, valid, supported and resolved; None if it is as good as not given."""
    setting = _BY_NAME[name]
    if value is None and setting.default is None and name != "bootstrap.servers":
        return None
    if value is None and setting.validator is None:
        raise setting.refused(value, "it must not be null; leave it out for the default")
    if name == "acks" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # the one number that Java wants as text
    parsed = setting.parse(value)
    status, note, accepts, _ = support(name)
    if status == "planned" and not _same(setting, parsed, setting.default) and parsed not in accepts:
        shown = HIDDEN if isinstance(parsed, Password) else repr(value)
        default = _as_text(setting.default)
        raise ConfigError(
            f"{name} = {shown} is not supported yet: {note}. Leave it out, or at its default: {default}", setting=name
        )
    if status == "jvm-only":
        say(_log, logging.WARNING, "%s does nothing here: %s", name, note)
    elif name in _CLASSES and status == "working":
        return _resolve_all(name, parsed) if isinstance(parsed, tuple) else _resolve(name, parsed)
    return parsed


def _same(setting: Setting, parsed: Any, default: Any) -> bool:
    if isinstance(setting.validator, OneOfIgnoringCase):
        return str(parsed).upper() == str(default).upper()
    return bool(parsed == default)


def _resolve_all(name: str, values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(_resolve(name, value) for value in values)


def _resolve(name: str, value: Any) -> Any:
    """The object behind a name: a Java class that has a counterpart here, or `module.attribute`, or `module:a.b`."""
    if not isinstance(value, str):
        return value
    refused = JAVA_CLASSES_REFUSED.get(value)
    if refused is not None:
        raise ConfigError(f"{name} = {value!r}: {refused}", setting=name)
    path = JAVA_CLASSES.get(value, value)
    module, separator, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not (module and separator and attribute):
        raise ConfigError(f"{name} = {value!r}: a class needs its module: package.module.Class", setting=name)
    import importlib

    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        why = str(error)
        if value.startswith(JAVA_PACKAGES):
            why = f"it looks like a Java class, which cannot run here; those with a counterpart are {_counterparts()}"
        raise ConfigError(f"{name} = {value!r} cannot be imported: {why}", setting=name, cause=error) from error
    return found


def _counterparts() -> str:
    return ", ".join(name.rpartition(".")[2] for name in JAVA_CLASSES)


# --- All values ---


def _settings(values: Mapping[str, Any], addresses: tuple[tuple[str, int], ...]) -> ProducerSettings:
    typed: dict[str, Any] = {name: values.get(_BY_KEYWORD.get(name, "")) for name in ProducerSettings._fields}
    typed["acks"] = int(values["acks"])
    # Of the codec in use; none and snappy have no levels.
    typed["compression_level"] = values.get(f"compression.{values['compression.type']}.level", 0)
    typed["batch_size"] = max(1, values["batch.size"])
    typed["bootstrap_addresses"] = addresses
    typed["bootstrap_servers"] = tuple(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses
    )
    typed["linger_ms"] = min(values["linger.ms"], INT_MAX)
    typed["metadata_recovery_strategy"] = values["metadata.recovery.strategy"].lower()
    return ProducerSettings(**typed)
