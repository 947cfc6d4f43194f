"""Invalid numbers, for every option that takes seconds or a rate."""

from __future__ import annotations

import pytest

from penstock.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("given", ["-1", "nan", "-inf", "-0.5", "soon", ""])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("produce", "--wait"), ("tail", "--wait"), ("bench", "--wait"), ("bench", "--seconds"),
        ("produce", "--rate"), ("bench", "--rate"),
    ],
)  # fmt: skip
def test_negative_numbers_and_nan_are_refused(command: str, option: str, given: str, capsys: Capture) -> None:
    assert main([command, "-t", "x", "-b", "127.0.0.1:1", option, given]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"penstock: {option} {given}: not a number of ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("given", ["-1", "nan", "1.5", "", "²", "9" * 20])
def test_metadata_max_age_ms_is_a_number_of_ms(given: str, capsys: Capture) -> None:
    assert main(["tail", "-t", "x", "-b", "127.0.0.1:1", "-X", f"metadata.max.age.ms={given}"]) == 2
    assert f"-X metadata.max.age.ms={given}: not a number of ms" in capsys.readouterr().err
    assert main(["tail", "-t", "x", "-b", "127.0.0.1:1", "-X", "fetch.max.bytes=1"]) == 2
    assert "-X fetch.max.bytes: the reader's only setting is metadata.max.age.ms" in capsys.readouterr().err
