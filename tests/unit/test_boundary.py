"""Both sides of the boundary know the same commands and events, by the same names of fields, in both directions."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args

import pytest

from penstock._native import Engine, SteppedEngine
from penstock.config import ProducerConfig
from penstock.control import boundary
from penstock.control.boundary import BatchDecision, BatchReport, LaneReport, NodeEndpoint, PartitionLeader, Trouble

# Every field of a sample has a value of its own, so that two that change places are seen.
COMMANDS: tuple[Any, ...] = (
    boundary.Connect(1, -2, "127.0.0.3", 9092, 1000),
    boundary.SendFrame(1, 7, b"frame", 1000),
    boundary.Ready(1, 13),
    boundary.Close(1, "enough"),
    boundary.SetTopic("t", bytes(range(16)), 5, (PartitionLeader(1, 2, False), PartitionLeader(3, 4, True))),
    boundary.FailTopic("t", Trouble(3, "unknown"), True),
    boundary.ForgetTopic("t"),
    boundary.SetStatus(Trouble(58, "wrong password")),
    boundary.SetBrokerStatus(1, Trouble(7, "connection refused")),
    boundary.SetIdentity(7, 2),
    boundary.ResumeLane(
        "t",
        30,
        (
            BatchDecision(1, "retry"),
            BatchDecision(2, "fail", "timeout", 10, "too late"),
            BatchDecision(3, "complete", base_offset=5),
            BatchDecision(4, "split"),
        ),
        boundary.Renumber(7, 6, 8),
        100,
    ),
    boundary.ResumeLane("t", 0, (), None, 1),
    boundary.FailBuffered("broker", Trouble(31, "not allowed")),
    boundary.FailProducer("unresolved", Trouble(9, "no such host")),
)
BATCH = BatchReport(1, 2, 3, 4, "partly written", 5, "so it is", True, False, 6, 7, 8)
LANE = LaneReport(
    "t", bytes(range(16)), 1, 2, 3, 4, 5, 6, 7, 8, True, (BATCH, BATCH._replace(batch_id=9, lost=False, expired=True))
)
EVENTS: tuple[Any, ...] = (
    boundary.ConnectionOpened(1),
    boundary.ConnectionClosed(1, "reset", True, False, False),
    boundary.ConnectionClosed(1, "reset", False, True, False),
    boundary.ConnectionClosed(1, "reset", False, False, True),
    boundary.FrameReceived(1, 7, b"frame"),
    boundary.ConnectionWanted(1),
    boundary.TopicWanted("t", 3),
    boundary.LeaderWanted(("a", "b")),
    boundary.LanesHandedOver((LANE,), (NodeEndpoint(1, "host", 9092, "a"), NodeEndpoint(2, "other", 9093, None))),
    boundary.EngineFailed("a bug"),
)
SAMPLES = {f"{type(sample).__name__} {number}": sample for number, sample in enumerate(COMMANDS + EVENTS)}
every_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())


@pytest.fixture
def engine() -> Engine:
    """An engine that was never started: commands are read and kept."""
    return Engine(ProducerConfig(bootstrap_servers="one:9092").settings)


def in_rust(value: object, field: str = "") -> str:
    """A value as Rust's `{:?}` writes it, if the names are the same."""
    match value:
        case BatchDecision(batch_id=batch_id):
            used = {"fail": ("kind", "code", "message"), "complete": ("base_offset",)}.get(value.action, ())
            fields = ", ".join(f"{name}: {in_rust(getattr(value, name), name)}" for name in used)
            action = f"{value.action.capitalize()} {{ {fields} }}" if used else value.action.capitalize()
            return f"BatchDecision {{ batch_id: {batch_id}, action: {action} }}"
        case boundary.SetIdentity():
            return f"SetIdentity(Identity {{ producer_id: {value.producer_id}, epoch: {value.epoch} }})"
        case tuple() if hasattr(value, "_fields"):
            fields = ", ".join(f"{name}: {in_rust(getattr(value, name), name)}" for name in value._fields)
            text = f"{type(value).__name__} {{ {fields} }}"
            return f"Some({text})" if field == "renumber" else text
        case tuple() | bytes():
            return f"[{', '.join(in_rust(item) for item in value)}]"
        case bool():
            return str(value).lower()
        case str() if field in ("kind", "fate"):
            return value.title().replace(" ", "")
        case str() if field == "ip":
            return value
        case str():
            return f'Some("{value}")' if field == "rack" else f'"{value}"'
        case _:
            return str(value)


def leaves(sample: Any) -> Iterator[object]:
    """The values of one sample, without those of the tuples in it."""
    yield from (value for value in sample if not isinstance(value, (bool, tuple)) and value is not None)


def test_every_class_has_a_sample() -> None:
    assert {type(sample) for sample in COMMANDS} == set(get_args(boundary.Command))
    assert {type(sample) for sample in EVENTS} == set(get_args(boundary.Event))
    classes = {kind for kind in vars(boundary).values() if isinstance(kind, type) and hasattr(kind, "_fields")}
    inner = {BatchDecision, BatchReport, LaneReport, NodeEndpoint, PartitionLeader, boundary.Renumber, Trouble}
    assert classes == inner | {type(sample) for sample in COMMANDS + EVENTS}


@pytest.mark.parametrize(
    "sample", [*COMMANDS, *EVENTS, BATCH, LANE, *COMMANDS[4].partitions, COMMANDS[10].renumber], ids=repr
)
def test_no_two_fields_of_a_sample_have_the_same_value(sample: Any) -> None:
    values = list(leaves(sample))
    assert len(set(values)) == len(values)


@every_sample
def test_a_sample_crosses_and_comes_back_equal(sample: Any) -> None:
    back, there = SteppedEngine.echo(sample)
    assert type(back) is type(sample)
    assert back == sample
    assert there == in_rust(sample), "in Rust the same names have the same values"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_the_engine_takes_every_command(engine: Engine, command: Any) -> None:
    assert engine.exchange([command], 0) == []


@every_sample
def test_a_field_of_the_wrong_type_is_refused_by_name(sample: Any) -> None:
    for field in sample._fields:
        with pytest.raises((TypeError, ValueError), match=rf"{type(sample).__name__}\.{field}: "):
            SteppedEngine.echo(sample._replace(**{field: object()}))


@pytest.mark.parametrize("alias", ["Action", "FailureKind", "Fate"])
def test_every_text_of_a_literal_crosses(alias: str) -> None:
    for text in get_args(getattr(boundary, alias)):
        assert SteppedEngine.echo(_with(alias, text))[0] == _with(alias, text)


@pytest.mark.parametrize("alias", ["Action", "FailureKind", "Fate"])
@pytest.mark.parametrize("typo", ["brokr", "Retry", "", "unsent "])
def test_a_text_outside_a_literal_is_refused_with_the_allowed_texts(alias: str, typo: str) -> None:
    with pytest.raises(ValueError, match=f'"{typo}" is not one of ') as refused:
        SteppedEngine.echo(_with(alias, typo))
    for known in get_args(getattr(boundary, alias)):
        assert f'"{known}"' in str(refused.value)


def _with(alias: str, text: Any) -> Any:
    match alias:
        case "Action":
            return boundary.ResumeLane("t", 0, (BatchDecision(1, text),), None, 0)
        case "FailureKind":
            return boundary.FailProducer(text, Trouble(1, "so"))
        case _:
            return boundary.LanesHandedOver((LANE._replace(batches=(BATCH._replace(fate=text),)),), ())


def test_an_object_that_is_no_command_is_refused(engine: Engine) -> None:
    with pytest.raises(TypeError, match="not a command of the boundary"):
        engine.exchange([boundary.ConnectionWanted(1)], 0)  # type: ignore[list-item]


def test_a_class_of_the_same_name_is_refused(engine: Engine) -> None:
    class ForgetTopic(NamedTuple):
        name: str

    with pytest.raises(TypeError, match="not a ForgetTopic"):
        engine.exchange([ForgetTopic("t")], 0)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('NamedTuple("ConnectionOpened", [("connection_id", int), ("more", int)])', "ConnectionOpened has the fields"),
        ('NamedTuple("ConnectionOpened", [])', "ConnectionOpened has the fields"),
        ('NamedTuple("TopicWanted", [("partition", int), ("name", str)])', "TopicWanted has the fields"),
        ('Literal["unsent", "partly written", "rejected", "lost"]', "Fate is"),
    ],
)
def test_an_engine_is_refused_if_the_two_tables_differ(change: str, says: str) -> None:
    script = f"""
from typing import Literal, NamedTuple
from penstock import KafkaProducer
from penstock.control import boundary
setattr(boundary, {says.split()[0]!r}, {change})
try:
    KafkaProducer(bootstrap_servers="127.0.0.1:1")
except RuntimeError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.startswith(says), found
    assert "in Python" in found.stdout
    assert "in Rust" in found.stdout
