"""The topic settings of Kafka 4.4, those that have an effect here, and their checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.log import LogSettings

_INT_MAX: Final = (1 << 31) - 1
_LONG_MAX: Final = (1 << 63) - 1

# The numbers of DescribeConfigs' config_type.
BOOLEAN, STRING, INT, LONG, DOUBLE, LIST = 1, 2, 3, 5, 6, 7


@dataclass(frozen=True, slots=True)
class Setting:
    """One topic setting. `applied`: whether this broker applies it; the others are accepted, stored and described."""

    name: str
    kind: int
    default: str
    check: Callable[[str], bool]
    applied: bool = False


def _number(minimum: float, maximum: float) -> Callable[[str], bool]:
    return lambda text: minimum <= int(text) <= maximum


def _fraction(text: str) -> bool:
    return 0 <= float(text) <= 1


def _one_of(*values: str) -> Callable[[str], bool]:
    return lambda text: text in values


def _all_of(*values: str) -> Callable[[str], bool]:
    return lambda text: all(part.strip() in values for part in text.split(",") if part)


def _anything(_: str) -> bool:
    return True


_BOOL = _one_of("true", "false")

SETTINGS: Final[Mapping[str, Setting]] = {
    setting.name: setting
    for setting in (
        Setting("cleanup.policy", LIST, "delete", _all_of("compact", "delete")),
        Setting("compression.gzip.level", INT, "-1", _number(-1, 9)),
        Setting("compression.lz4.level", INT, "9", _number(1, 17)),
        Setting(
            "compression.type",
            STRING,
            "producer",
            _one_of("uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"),
        ),
        Setting("compression.zstd.level", INT, "3", _number(-131072, 22)),
        Setting("delete.retention.ms", LONG, "86400000", _number(0, _LONG_MAX)),
        Setting("file.delete.delay.ms", LONG, "60000", _number(0, _LONG_MAX)),
        Setting("flush.messages", LONG, str(_LONG_MAX), _number(1, _LONG_MAX)),
        Setting("flush.ms", LONG, str(_LONG_MAX), _number(0, _LONG_MAX)),
        Setting("follower.replication.throttled.replicas", LIST, "", _anything),
        Setting("index.interval.bytes", INT, "4096", _number(0, _INT_MAX)),
        Setting("leader.replication.throttled.replicas", LIST, "", _anything),
        Setting("local.retention.bytes", LONG, "-2", _number(-2, _LONG_MAX)),
        Setting("local.retention.ms", LONG, "-2", _number(-2, _LONG_MAX)),
        Setting("max.compaction.lag.ms", LONG, str(_LONG_MAX), _number(1, _LONG_MAX)),
        Setting("max.message.bytes", INT, "1048588", _number(0, _INT_MAX), applied=True),
        Setting("message.timestamp.after.max.ms", LONG, "3600000", _number(0, _LONG_MAX), applied=True),
        Setting("message.timestamp.before.max.ms", LONG, str(_LONG_MAX), _number(0, _LONG_MAX)),
        Setting("message.timestamp.type", STRING, "CreateTime", _one_of("CreateTime", "LogAppendTime"), applied=True),
        Setting("min.cleanable.dirty.ratio", DOUBLE, "0.5", _fraction),
        Setting("min.compaction.lag.ms", LONG, "0", _number(0, _LONG_MAX)),
        Setting("min.insync.replicas", INT, "1", _number(1, _INT_MAX), applied=True),
        Setting("preallocate", BOOLEAN, "false", _BOOL),
        Setting("remote.log.copy.disable", BOOLEAN, "false", _BOOL),
        Setting("remote.log.delete.on.disable", BOOLEAN, "false", _BOOL),
        Setting("remote.storage.enable", BOOLEAN, "false", _one_of("false")),
        Setting("retention.bytes", LONG, "-1", _number(-(1 << 63), _LONG_MAX), applied=True),
        Setting("retention.ms", LONG, "604800000", _number(-1, _LONG_MAX)),
        Setting("segment.bytes", INT, "1073741824", _number(1024 * 1024, _INT_MAX), applied=True),
        Setting("segment.index.bytes", INT, "10485760", _number(4, _INT_MAX)),
        Setting("segment.jitter.ms", LONG, "0", _number(0, _LONG_MAX)),
        Setting("segment.ms", LONG, "604800000", _number(1, _LONG_MAX)),
        Setting("unclean.leader.election.enable", BOOLEAN, "false", _BOOL),
    )
}


def check_settings(settings: Mapping[str, str | None]) -> dict[str, str]:
    """The settings if Kafka accepts them; else raises `RequestError` with INVALID_CONFIG."""
    checked: dict[str, str] = {}
    for name, value in settings.items():
        setting = SETTINGS.get(name)
        if setting is None:
            raise RequestError(ErrorCode.INVALID_CONFIG, f"Unknown topic config name: {name}")
        if value is None:
            raise RequestError(ErrorCode.INVALID_CONFIG, f"Null value not supported for topic configs: {name}")
        if not _passes(setting, value):
            raise RequestError(ErrorCode.INVALID_CONFIG, f"Invalid value {value} for configuration {name}")
        checked[name] = value
    return checked


def _passes(setting: Setting, value: str) -> bool:
    try:
        return setting.check(value)
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """The settings with an effect. Sizes in bytes, times in ms."""

    max_message_bytes: int
    timestamp_after_max_ms: int
    min_insync_replicas: int
    log: LogSettings


def derive(defaults: Mapping[str, str], overrides: Mapping[str, str], *, sync_always: bool) -> TopicSettings:
    """The effective settings of a topic: its own value, else the broker's, else Kafka's default."""

    def value(name: str) -> str:
        return overrides.get(name, defaults.get(name, SETTINGS[name].default))

    return TopicSettings(
        max_message_bytes=int(value("max.message.bytes")),
        timestamp_after_max_ms=int(value("message.timestamp.after.max.ms")),
        min_insync_replicas=int(value("min.insync.replicas")),
        log=LogSettings(
            segment_bytes=int(value("segment.bytes")),
            retention_bytes=int(value("retention.bytes")),
            sync_always=sync_always,
            log_append_time=value("message.timestamp.type") == "LogAppendTime",
        ),
    )
