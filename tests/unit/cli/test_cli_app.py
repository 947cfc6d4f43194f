"""The command line without a broker: usage, exit codes, configuration, the missing extra."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import penstock
from penstock.cli import main
from penstock.cli.output import CommandError
from penstock.cli.target import attach_dev_folder, bootstrap_servers, default_data_dir
from penstock.config import describe


@pytest.fixture(autouse=True)
def _no_brokers_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS", raising=False)


@pytest.mark.parametrize("command", [["produce", "-t", "x", __file__], ["tail", "-t", "x"], ["topics", "list"]])
def test_without_brokers_the_command_exits_2_and_lists_the_three_ways_to_name_them(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    for way in ("-b", "PENSTOCK_BOOTSTRAP_SERVERS", "--dev [DIR]"):
        assert way in err


def test_option_beats_configuration_beats_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", "environment:1")
    for given, configured, expected in (
        ("option:1", "file:1", "option:1"),
        (None, "file:1", "file:1"),
        (None, None, "environment:1"),
    ):
        with bootstrap_servers(given, None, configured=configured) as servers:
            assert servers == expected
    with pytest.raises(CommandError, match="exclude"), bootstrap_servers("option:1", ""):
        pass


def test_dev_may_have_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "input.csv"
    file.touch()
    for given, expected in (
        (["tail", "--dev"], ["tail", "--dev="]),
        (["tail", "--dev", "-t", "x"], ["tail", "--dev=", "-t", "x"]),
        (["produce", "--dev", "-", "-t", "x"], ["produce", "--dev=", "-", "-t", "x"]),
        (["produce", "--dev", "here", "-t", "x"], ["produce", "--dev=here", "-t", "x"]),
        (["produce", "--dev", str(file)], ["produce", "--dev=", str(file)]),
        (["produce", "--dev=here"], ["produce", "--dev=here"]),
        (["produce", "--", "--dev"], ["produce", "--", "--dev"]),
    ):
        assert attach_dev_folder(given) == expected


def test_the_default_data_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "penstock" / "dev"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-K", ":", "--format", "csv"], "-K does not go with --format csv"),
        (["--key", "a"], "--key does not go with --format lines"),
        (["--infer"], "--infer does not go with --format lines"),
        (["--null", "NA", "--format", "jsonl"], "--null does not go with --format jsonl"),
        (["-K", ""], "-K: the delimiter is empty"),
        (["-H", "x"], "-H x: not NAME=VALUE"),
        (["-X", "=1"], "-X =1: not NAME=VALUE"),
        (["-X", "lingerms=1"], "did you mean"),
        (["-X", "acks=7"], "acks"),
    ],
)
def test_wrong_options_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["produce", __file__, "-t", "x", "-b", "127.0.0.1:1", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_file_is_named_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["produce", "nowhere.csv", "-t", "x", "-b", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == "penstock: nowhere.csv: No such file or directory (0 records were acknowledged)\n"


def test_a_missing_configuration_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["produce", __file__, "-t", "x", "-b", "127.0.0.1:1", "--config", "no.properties"]) == 1
    assert "no.properties: No such file" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"penstock {penstock.__version__}\n"


def test_fsync_is_a_word_or_a_number_of_milliseconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[object] = []
    monkeypatch.setattr("penstock.cli.broker.serve", lambda cluster, ready: served.append(cluster.settings.fsync))
    for given in ("never", "always", "250"):
        assert main(["broker", "--memory", "--fsync", given]) == 0
    assert served == ["never", "always", 250]
    for wrong in ("0", "-5", "often", "1.5", ""):
        assert main(["broker", "--memory", f"--fsync={wrong}"]) == 2
        assert f"--fsync {wrong}: not one of never, always, MS" in capsys.readouterr().err


def test_a_closed_stdin_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["broker", "--memory", "--until-eof"]) == 2
    assert "--until-eof: stdin is closed" in capsys.readouterr().err
    assert main(["produce", "-t", "x", "-b", "127.0.0.1:1"]) == 2
    assert capsys.readouterr().err == "penstock: stdin is closed; name a FILE to send\n"


def test_an_unknown_command_and_no_command_are_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    assert main([]) in (0, 2)  # depends on the version of Typer
    assert "produce" in "".join(capsys.readouterr())


def test_no_broker_reachable_is_an_error_with_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["topics", "list", "-b", "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1" in capsys.readouterr().err


def test_config_lists_every_setting_with_a_mark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("\t")[0] for row in rows] == [row.name for row in describe()]
    assert main(["config", "--json"]) == 0
    assert {json.loads(row)["status"] for row in capsys.readouterr().out.splitlines()} == {
        "working",
        "planned",
        "jvm-only",
    }


def test_config_of_one_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "linger_ms"]) == 0
    assert "linger.ms" in capsys.readouterr().out
    assert main(["config", "linger.sm"]) == 2
    assert "did you mean linger.ms?" in capsys.readouterr().err


def test_without_the_extra_the_command_prints_the_install_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "typer" else real(name))
    assert main(["config"]) == 2
    assert "pip install 'penstock[cli]'" in capsys.readouterr().err


def test_the_entry_point_needs_neither_typer_nor_rich_to_be_imported() -> None:
    code = "import sys, penstock.cli; sys.exit(any(name in sys.modules for name in ('typer', 'rich')))"
    source = Path(__file__).resolve().parents[3] / "src"
    assert subprocess.run([sys.executable, "-c", code], cwd=source, check=False).returncode == 0
