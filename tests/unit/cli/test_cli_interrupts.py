"""Signals that arrive while a run has one already."""

from __future__ import annotations

import signal

import pytest

from penstock.cli.interrupts import Interrupts


def test_the_second_ctrl_c_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("penstock.cli.interrupts.os._exit", left.append)
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # in this test the process does go on
            signal.raise_signal(signal.SIGINT)
    assert left == [130]


@pytest.mark.usefixtures("in_the_foreground")
def test_a_second_sigterm_does_not_cut_the_drain_short_and_ctrl_c_after_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[int] = []
    monkeypatch.setattr("penstock.cli.interrupts.os._exit", left.append)
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert left == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert left == [130]
    assert interrupts.stopped_by is signal.SIGTERM
