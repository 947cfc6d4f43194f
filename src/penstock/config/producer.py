"""`ProducerConfig`: a checked configuration, from names and values or from a `.properties` file."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, Self, Unpack

from penstock.config import properties
from penstock.config.options import ProducerOptions
from penstock.config.own import ALL_SETTINGS, OUR_DEFAULTS
from penstock.config.reading import named, read_value
from penstock.config.rules import apply_rules, bootstrap_addresses
from penstock.config.settings import ProducerSettings, typed_settings
from penstock.errors import ConfigError


class ProducerConfig(Mapping[str, Any]):
    """A checked configuration: every name of Kafka's producer, and ours, with its value, after Java's own adjustments.

    Args:
        config: names (dotted, or with underscores) and values; values may be text, as in a `.properties` file.
        options: the same names with underscores; they win over `config`.

    If None is a setting's default, giving None is the same as leaving the name out. Lists are tuples, secrets are
    `Password`, names of classes are replaced by the classes. `repr()` shows the given values, secrets hidden.

    Raises:
        ConfigError: a name is unknown or not supported, a value has the wrong type or is out of range, or settings
            contradict one another (the rules of Java's `ProducerConfig` and `KafkaProducer`).
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
        """Read and check; the only effects are log lines."""
        keywords: dict[str, Any] = dict(options)
        if key_serializer is not None:
            keywords["key_serializer"] = key_serializer
        if value_serializer is not None:
            keywords["value_serializer"] = value_serializer
        if isinstance(config, ProducerConfig) and not keywords:
            # The same configuration with the same client id; nothing is logged twice.
            self._given, self._values, self._settings = config._given, config._values, config._settings
            return
        raw = dict(config._given) if isinstance(config, ProducerConfig) else named(config or {})
        raw |= named(keywords)
        read = {name: read_value(name, value) for name, value in raw.items()}
        given = {name: value for name, value in read.items() if value is not None}
        values = {setting.name: setting.default for setting in ALL_SETTINGS} | OUR_DEFAULTS | given
        addresses = bootstrap_addresses(values)
        apply_rules(values, given)
        self._given, self._values, self._settings = given, values, typed_settings(values, addresses)

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
        """Read a Java `.properties` file; keywords win.

        Names of Java's serializers and partitioners stand for Penstock's. The file is in UTF-8 or, as Java assumes, in
        ISO-8859-1.

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
        """The values with types: for code that works with them."""
        return self._settings

    @property
    def given(self) -> Mapping[str, Any]:
        """The given values, parsed, by dotted name; without those left at their default."""
        return dict(self._given)

    def __getitem__(self, name: str) -> Any:
        """The value of a dotted name; raises `KeyError` for a name that is no setting."""
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        """All dotted names, sorted."""
        return iter(self._values)

    def __len__(self) -> int:
        """The number of names: Kafka's and ours."""
        return len(self._values)

    def __repr__(self) -> str:
        """The given values; secrets are hidden."""
        return f"ProducerConfig({dict(self._given)!r})"
