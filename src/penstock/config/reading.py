"""From what a user gave to a setting's name and value: known, parsed, valid, supported, classes imported."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from penstock._log import log_line
from penstock.config.definition import HIDDEN, OneOfIgnoringCase, Password, Setting
from penstock.config.foreign import ELSEWHERE, JAVA_CLASSES, JAVA_CLASSES_REFUSED, JAVA_PACKAGES
from penstock.config.own import ALL_SETTINGS
from penstock.config.support import support
from penstock.errors import ConfigError

_log: Final = logging.getLogger("penstock.config")

_BY_NAME: Final = {setting.name: setting for setting in ALL_SETTINGS}
_BY_KEYWORD: Final = {name.replace(".", "_"): name for name in _BY_NAME}
_CLASSES: Final = frozenset(
    ("interceptor.classes", *(setting.name for setting in ALL_SETTINGS if setting.type == "CLASS"))
)


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """The values by dotted name; the names may be given dotted or with underscores."""
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
    import difflib  # only needed here, and slow to import

    near = difflib.get_close_matches(dotted.lower(), _BY_NAME, n=1, cutoff=0.6)
    if not near:
        return "Kafka's producer has no similar one; `penstock config` lists them all"
    return f"did you mean {near[0] if '.' in written else near[0].replace('.', '_')}?"


def read_value(name: str, value: Any) -> Any:
    """The value, parsed, valid and supported, its class imported; None if it is the same as not given."""
    setting = _BY_NAME[name]
    if value is None and setting.default is None and name != "bootstrap.servers":
        return None
    if value is None and setting.validator is None:
        raise setting.refused(value, "it must not be null; leave it out for the default")
    if name == "acks" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # a number that Java defines as text
    parsed = setting.parse(value)
    status, note, accepts, _ = support(name)
    if status == "planned" and not _same(setting, parsed, setting.default) and parsed not in accepts:
        shown = HIDDEN if isinstance(parsed, Password) else repr(value)
        raise ConfigError(
            f"{name} = {shown} is not supported yet: {note}. Leave it out, or at its default: {setting.default_text}",
            setting=name,
        )
    if status == "jvm-only":
        log_line(_log, logging.WARNING, "%s does nothing here: %s", name, note)
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
    """The object of a name: a Java class with a counterpart here, or `module.attribute`, or `module:a.b`."""
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
