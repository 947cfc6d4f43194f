"""Kafka's own ConfigDef and ProducerConfig check ours: the table, values of all kinds, rules between settings."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import kafka_artifacts
import pytest

from penstock.config import ProducerConfig, describe, properties
from penstock.config.definition import Password
from penstock.config.own import OUR_DEFAULTS, OWN_SETTINGS
from penstock.config.table import SETTINGS
from penstock.errors import ConfigError
from support.java import JavaError, JavaJudge

HERE = Path(__file__).resolve().parent
SERVERS = {"bootstrap.servers": "localhost:9092"}

# Texts on which a careless parser differs from Java's, besides ordinary values. Digits are not only ASCII's.
TEXTS = [
    *(
        "",
        " ",
        "0",
        "1",
        "-1",
        "+1",
        " 5\t",
        "\n5\r",
        "\x005\x00",
        "\u00a05",
        "\u20035",
        "05",
        "-0",
        "--1",
        "+",
        "-",
        "1 2",
    ),
    *(
        "1_000",
        "0x10",
        "1e3",
        "1.0",
        "1.",
        ".5",
        "5.d",
        "1f",
        "1L",
        "NaN",
        "nan",
        "-Infinity",
        "inf",
        "1e400",
        "-1e-400",
    ),
    *(
        "0x1p3",
        "0x.8p1",
        "0xp1",
        "0x1",
        "1e",
        "\u0661\u0662",
        "\U0001d7cf",
        "\uff11\uff12",
        "true",
        " True ",
        "FALSE",
        "yes",
        "tRuE\u00a0",
        "null",
    ),
    *("32767", "32768", "-32769", "2147483647", "2147483648", "-2147483648", "-2147483649"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "9" * 400,
        "all",
        "ALL",
        " all ",
        "-1 ",
        "none",
        "NONE",
        "Rebootstrap",
    ),
    *("a,b", "a, b ,c", "a,,b", ",", "a,", "a,a", " a ", "a\u00a0,b", "a b", "gzip", "GZIP", "plaintext", "PlainText"),
    *(
        "use_all_dns_ips",
        "INFO",
        "info",
        "es256",
        "full",
        "9",
        "10",
        "17",
        "22",
        "23",
        "-131072",
        "0.25",
        "0.5",
        "1.0000001",
    ),
]
OTHERS: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    5,
    2**31,
    -(2**31),
    2**53,
    0.5,
    1.0,
    -0.0,
    1e300,
    [],
    ["a"],
    ["a", "a"],
]
OTHERS += [["a", ""], ["a", 1], [1, 1], {"a": 1}, {}]


def test_names_types_defaults_importance_and_validators_are_kafka_s(java: JavaJudge) -> None:
    theirs = {row["name"]: row for row in java.config_table()}
    assert [setting.name for setting in SETTINGS] == sorted(theirs)
    for setting in SETTINGS:
        row = theirs[setting.name]
        default = list(setting.default) if isinstance(setting.default, tuple) else setting.default
        assert (setting.type, setting.importance) == (row["type"], row["importance"])
        assert (setting.required, setting.internal) == (row["required"], row["internal"])
        assert default == row.get("default")
        assert type(default) is type(row.get("default"))


def test_the_documented_table_agrees(java: JavaJudge) -> None:
    theirs = {row["name"]: row for row in java.config_table()}
    ours = {setting.name for setting in OWN_SETTINGS}
    for row in describe():
        if row.name in ours:
            continue
        assert (row.type, row.importance) == (theirs[row.name]["type"], theirs[row.name]["importance"])
        if row.valid.startswith("["):
            assert row.valid == theirs[row.name]["validator"]


def expressible(setting: Any, value: Any) -> bool:
    """Whether the value exists on both sides."""
    if setting.type == "CLASS":
        return False  # Java would load the class; Python accepts an object
    if setting.type == "SHORT" and isinstance(value, int):
        return False  # Java needs a Short, which neither JSON nor Python has: Python accepts an int
    # Java validates only text in a list; an entry of another type is validated where the list is used.
    return not (setting.type == "LIST" and isinstance(value, list) and None in value)


def parsed(setting: Any, value: Any) -> Any:
    try:
        ours = setting.parse(value)
    except ConfigError:
        return "refused"
    if isinstance(ours, Password):
        return ours.value
    return list(ours) if isinstance(ours, tuple) else ours


def plain(answer: Any) -> Any:
    return "refused" if isinstance(answer, JavaError) else answer


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and theirs != "refused":  # as text, for NaN and -0.0; the judge may write NaN as text
        return repr(ours) == repr(float(theirs))
    return type(ours) is type(theirs) and ours == theirs


def test_each_setting_accepts_the_values_that_kafka_accepts(java: JavaJudge) -> None:
    questions = [(setting, value) for setting in SETTINGS for value in [*TEXTS, *OTHERS] if expressible(setting, value)]
    answers = java.config_parse([(setting.name, value) for setting, value in questions])
    wrong = [
        f"{setting.name} ({setting.type}) = {value!r}: {parsed(setting, value)!r} here, {plain(answer)!r} there"
        for (setting, value), answer in zip(questions, answers, strict=True)
        if not same(parsed(setting, value), plain(answer))
    ]
    assert not wrong, "\n".join(wrong)


def test_numbers_around_every_limit_are_accepted_as_by_kafka(java: JavaJudge) -> None:
    chance = random.Random(20240607)
    limits = [0, 1, 5, 9, 17, 22, 900, 3600, 5000, 86400, -131072, 2**15, 2**16, 2**31, 2**32, 2**53, 2**63]
    numbers = {limit + step for limit in limits for step in (-1, 0, 1)} | {-n for n in limits}
    numbers |= {chance.randrange(-(2**bits), 2**bits) for bits in range(1, 66)}
    settings = [setting for setting in SETTINGS if setting.type in ("INT", "LONG", "SHORT", "DOUBLE")]
    questions = [(setting, str(number)) for setting in settings for number in sorted(numbers)]
    answers = java.config_parse([(setting.name, text) for setting, text in questions])
    wrong = [
        f"{setting.name} = {text}: {parsed(setting, text)!r} here, {plain(answer)!r} there"
        for (setting, text), answer in zip(questions, answers, strict=True)
        if not same(parsed(setting, text), plain(answer))
    ]
    assert not wrong, "\n".join(wrong)


def combinations() -> list[dict[str, str]]:
    chance = random.Random(7)
    choices = {
        "acks": ["all", "-1", "0", "1"],
        "enable.idempotence": ["true", "false"],
        "retries": ["0", "1", "2147483647"],
        "max.in.flight.requests.per.connection": ["1", "5", "6"],
        "linger.ms": ["0", "5", "100000", "9223372036854775807"],
        "request.timeout.ms": ["0", "30000", "2147483647"],
        "delivery.timeout.ms": ["0", "29999", "30000", "30005", "120000", "2147483647"],
        "reconnect.backoff.ms": ["0", "50", "2000"],
        "reconnect.backoff.max.ms": ["0", "1000"],
        "retry.backoff.ms": ["100", "2000"],
        "retry.backoff.max.ms": ["10", "1000"],
        "client.id": ["", "me"],
    }
    made = [{name: value} for name, values in choices.items() for value in values]
    for _ in range(300):
        names = chance.sample(sorted(choices), chance.randint(2, 6))
        made.append({name: chance.choice(choices[name]) for name in names})
    return made


def test_rules_between_settings_give_the_same_values(java: JavaJudge) -> None:
    """All except delivery.timeout.ms, which Java's KafkaProducer validates, not its ProducerConfig."""
    given = [SERVERS | it for it in combinations() if "delivery.timeout.ms" not in it]
    for one, theirs in zip(given, java.producer_config(given), strict=True):
        try:
            ours = dict(ProducerConfig(one))
        except ConfigError:
            assert isinstance(theirs, JavaError), one
            continue
        assert not isinstance(theirs, JavaError), (one, theirs)
        if "client.id" not in one:
            assert ours["client.id"].startswith("producer-")
            assert theirs["client.id"].startswith("producer-")
            ours["client.id"] = theirs["client.id"] = ""
        for name in ("key.serializer", "value.serializer", "delivery.timeout.ms", *OUR_DEFAULTS):
            del ours[name], theirs[name]
        for setting in OWN_SETTINGS:
            del ours[setting.name]
        assert {name: list(it) if isinstance(it, tuple) else it for name, it in ours.items()} == theirs, one


@pytest.mark.parametrize(
    "more",
    [
        {"delivery.timeout.ms": "30004"},
        {"delivery.timeout.ms": "30005"},
        {"delivery.timeout.ms": "120000", "linger.ms": "9223372036854775807"},
        {"request.timeout.ms": "2147483647", "linger.ms": "9223372036854775807"},
        {"bootstrap.servers": "127.0.0.1"},
        {"bootstrap.servers": "127.0.0.1:"},
        {"bootstrap.servers": "127.0.0.1:65536"},
        {"bootstrap.servers": "127.0.0.1:99999999999"},
        {"bootstrap.servers": "127.0.0.1:x"},
        {"bootstrap.servers": "127.0.0.1:1/x"},
        {"bootstrap.servers": "127.0.0.1 :1"},
        {"bootstrap.servers": "[::1]:1"},
        {"bootstrap.servers": "::1:1"},
        {"bootstrap.servers": "SSL://127.0.0.1:1"},
        {"bootstrap.servers": "S L://127.0.0.1:1"},
        {"bootstrap.servers": "127.0.0.1:1,127.0.0.1:2"},
        {"bootstrap.servers": "127.0.0.1:1,127.0.0.1:1"},
        {"bootstrap.servers": "127.0.0.1:1,"},
        {"bootstrap.servers": ""},
    ],
    ids=str,
)
def test_a_producer_accepts_the_configurations_that_java_accepts(java: JavaJudge, more: dict[str, str]) -> None:
    given = {"bootstrap.servers": "127.0.0.1:9", **more}
    (theirs,) = java.open_producer([given])
    if theirs is None:
        ProducerConfig(given)
    else:
        with pytest.raises(ConfigError):
            ProducerConfig(given)


PROPERTIES = [
    "a=1\nb = 2\nc:3\nd : 4\ne 5\nf\t6\ng\fx\nh==7\ni=:8\nj :=9\nk\nl=\nm =\n=n\n:o\n",
    "# comment \\\na=1\n  ! comment\n\\# = no comment\n a = leading\nb=trailing  \n\n   \n",
    "a=1,\\\n   2,\\\n\t3\nb=\\\n\nc=x\\\\\nd=y\\\\\\\n z\ne=end\\",
    'a\\ b=1\nc\\=d=2\ne\\:f=3\n\\ g=4\nh=\\ lead\ni=\\t\\n\\r\\f\\q\\\\\\"\n',
    "a=\\u0041\\u00e9\\u20AC\n\\u0062=key\nc=\\ud83d\\ude80\n",
    "a=1\rb=2\r\nc=3\n\rd=4\u0085e=5\u2028f=6\x0bg=7\x1ch=8\n",
    "a=1\na=2\nb=äöü\nc=x#y\nd=x!y\n#\\\ne=comment above is over\n",
    "a=\\\n# not a comment\nb=\\\n\\\n  c\nd=\\u004\\\n1\n",
    "a=\\uZZZZ\n",
    "a=\\u12",
    "",
]


def read_by_java(texts: list[str]) -> list[dict[str, str] | None]:
    command = [kafka_artifacts.java(), "-cp", kafka_artifacts.classpath(), str(HERE / "ReadProperties.java")]
    done = subprocess.run(command, input=json.dumps(texts).encode(), capture_output=True, timeout=60, check=True)
    answers: list[dict[str, str] | None] = json.loads(done.stdout)
    return answers


def read_here(text: str) -> dict[str, str] | None:
    try:
        return properties.parse(text)
    except ValueError:
        return None


def generated() -> list[str]:
    """Small texts of the characters that matter to the format.

    They end with an ordinary line: a file that ends in a lone backslash gives Java an entry without name and value.
    """
    chance = random.Random(5)
    return [
        "".join(chance.choices("ab=: \t\f\\\n\r#!u0041", k=chance.randrange(1, 30))) + "\nend=1" for _ in range(2000)
    ]


def test_properties_are_read_as_java_reads_them() -> None:
    texts = [*PROPERTIES, *generated()]
    for text, theirs in zip(texts, read_by_java(texts), strict=True):
        assert read_here(text) == theirs, repr(text)
