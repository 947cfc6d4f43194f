"""Arguments that are not UTF-8, in every place of every command; and invalid numbers."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli import demo, main
from penstock.cli.app import app
from penstock.cli.arguments import read_arguments
from penstock.cli.output import CommandError, lenient_output, printable

Capture = pytest.CaptureFixture[str]

BAD = os.fsdecode(b"caf\xe9")
SHOWN = "caf\\xe9"

PATHS = {
    ("produce", "FILE"), ("produce", "--config"), ("produce", "--dev"),
    ("bench", "--config"), ("bench", "--report"), ("bench", "--dev"),
    ("tail", "--dev"), ("topics list", "--dev"), ("topics describe", "--dev"), ("topics create", "--dev"),
    ("topics delete", "--dev"), ("broker", "--dir"),
}  # fmt: skip
"""Options that name files: a file name may have any bytes."""


@pytest.fixture(autouse=True)
def _no_brokers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)


def commands(command: Any = None, *words: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with the words that select it."""
    command = typer.main.get_command(app) if command is None else command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)
    if not hasattr(command, "commands"):
        yield words, command


def places() -> Iterator[tuple[list[str], bool, str]]:
    """Arguments with bytes that are not UTF-8 in each place, whether that is a path, and how the error shows the argument."""
    for words, command in commands():
        for param in command.params:
            if param.param_type_name == "argument":
                yield [*words, BAD], (" ".join(words), param.metavar) in PATHS, SHOWN
                yield [*words, "--", BAD], (" ".join(words), param.metavar) in PATHS, SHOWN
                continue
            for option in param.opts:
                if param.is_flag:
                    yield [*words, option, BAD], words == ("produce",), SHOWN  # an argument of its own
                    continue
                is_path = (" ".join(words), option) in PATHS
                yield [*words, option, BAD], is_path, f"{option} {SHOWN}"
                if option.startswith("--"):
                    yield [*words, f"{option}={BAD}"], is_path, f"{option} {SHOWN}"
                else:
                    yield [*words, option + BAD], is_path, option + SHOWN
        yield [*words, f"--{BAD}"], False, f"--{SHOWN}"
        yield [*words, f"-{BAD}"], False, f"-{SHOWN}"
        yield [*words, f"--{BAD}=1"], False, f"--{SHOWN}"
    for words in ((), ("topics",)):
        yield [*words, BAD], False, SHOWN
        yield [*words, f"--{BAD}"], False, f"--{SHOWN}"


def test_bytes_that_are_not_utf_8_are_refused_except_in_paths() -> None:
    root = typer.main.get_command(app)
    assert {" ".join(words) for words, _ in commands()} == {
        "produce", "bench", "tail", "topics list", "topics describe", "topics create", "topics delete", "broker", "config"
    }  # fmt: skip
    paths = 0
    for arguments, is_path, shown in places():
        if is_path:
            read_arguments(root, arguments)
            paths += 1
            continue
        with pytest.raises(CommandError) as raised:
            read_arguments(root, arguments)
        assert (str(raised.value), raised.value.code) == (f"{shown}: not UTF-8", 2), arguments
    assert paths > 2 * len(PATHS) - 2


@pytest.mark.parametrize(
    "arguments",
    [
        [BAD],
        ["--version", BAD],
        ["produce", "-t", BAD],
        ["tail", "-t", "x", f"-K{BAD}"],
        ["topics", "create", "x", "-c", f"a={BAD}"],
        ["topics", "delete", "x", BAD],
        ["config", BAD],
        ["broker", f"--host={BAD}"],
        ["bench", "-t", "x", "--rate", BAD],
        ["produce", "-t", "x", "--format", BAD],
    ],
)
def test_an_argument_that_is_not_utf_8_gives_one_line_and_exit_2(arguments: list[str], capsys: Capture) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("penstock: ")
    assert err.endswith(f"{SHOWN}: not UTF-8\n")
    assert err.count("\n") == 1


def test_bad_bytes_are_found_in_joined_options_and_after_values() -> None:
    root = typer.main.get_command(app)
    read_arguments(root, ["tail", "-eK", "é", "-t", "x"])
    read_arguments(root, ["produce", "--dev=", BAD, "-t", "x"])
    read_arguments(root, ["frobnicate", BAD])  # the parser reports the unknown command
    for arguments, shown in (
        (["tail", "-eK", BAD], f"-K {SHOWN}"),
        (["tail", "-K", "-", "-t", BAD], f"-t {SHOWN}"),
        (["produce", "-K", "--dev", "-H", BAD], f"-H {SHOWN}"),  # --dev is the delimiter here
        (["produce", "-Kx", "in.csv", "-X", f"a={BAD}"], f"-X a={SHOWN}"),
        (["topics", "create", "x", "--config", BAD], f"--config {SHOWN}"),  # no file there
    ):
        with pytest.raises(CommandError) as raised:
            read_arguments(root, arguments)
        assert (str(raised.value), raised.value.code) == (f"{shown}: not UTF-8", 2)


def test_the_environment_is_checked_as_well(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", BAD)
    for command in (["topics", "list"], ["tail", "-t", "x"], ["produce", __file__, "-t", "x"], ["bench", "-t", "x"]):
        assert main(command) == 2
        assert capsys.readouterr() == ("", f"penstock: PENSTOCK_BOOTSTRAP_SERVERS {SHOWN}: not UTF-8\n")


def test_a_lone_surrogate_in_a_file_of_settings_is_refused(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "producer.properties"
    file.write_text("client.id=\\ud800\n")
    assert main(["produce", __file__, "-t", "x", "-b", "127.0.0.1:1", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"penstock: {file}: client.id: has a lone surrogate\n")


@pytest.mark.parametrize("arguments", [["--topic", BAD], ["--bootstrap", BAD], [f"--{BAD}"], [BAD]])
def test_the_demo_refuses_bytes_that_are_not_utf_8(arguments: list[str], capsys: Capture) -> None:
    assert demo.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "not UTF-8" in err


def test_a_missing_file_whose_name_is_not_utf_8_is_named(tmp_path: Path, capsys: Capture) -> None:
    for arguments in (
        ["produce", str(tmp_path / BAD), "-t", "x"],
        ["produce", __file__, "-t", "x", "--config", str(tmp_path / BAD)],
        ["bench", "-t", "x", "--config", str(tmp_path / BAD)],
    ):
        assert main([*arguments, "-b", "127.0.0.1:1"]) == 1
        assert f"penstock: {printable(str(tmp_path / BAD))}: No such file or directory" in capsys.readouterr().err


def test_in_an_ascii_locale_utf_8_is_decoded_and_paths_stay_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = os.fsdecode("größe".encode()).encode().decode("ascii", "surrogateescape")
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    given = ["produce", typed, "-K", typed, f"--config={typed}", "-X", f"client.id={typed}", "--dev", typed]
    assert read_arguments(typer.main.get_command(app), given) == [
        *("produce", typed, "-K", "größe", f"--config={typed}", "-X", "client.id=größe", "--dev", typed)
    ]


# --- stdout ---


class Terminal(io.TextIOWrapper):
    """stdout in an encoding."""

    def __init__(self, encoding: str) -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "arguments", [["config"], ["config", "acks"], ["config", "--json"], ["--help"], ["bench", "--help"]]
)
def test_characters_that_stdout_cannot_encode_are_escaped(
    encoding: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert main(arguments) == 0
    assert out.bytes.getvalue()
    assert out.errors == "strict"


def test_json_output_is_valid_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock.cli.output import print_json

    for encoding, written in (("ascii", b'{"a":"\\u00fc"}\n'), ("utf-8", '{"a":"ü"}\n'.encode())):
        out = Terminal(encoding)
        monkeypatch.setattr(sys, "stdout", out)
        with lenient_output():
            print_json({"a": "ü"})
        assert out.bytes.getvalue().replace(b": ", b":") == written
    out = Terminal("utf-8")
    monkeypatch.setattr(sys, "stdout", out)
    print_json(BAD)
    assert out.bytes.getvalue() == b'"caf\\udce9"\n'
