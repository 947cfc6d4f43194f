"""Several readers of one producer's metrics: each sees the maxima since its own last reading."""

from __future__ import annotations

from penstock import metrics
from penstock._native import Engine, SteppedEngine
from penstock.config import ProducerConfig
from penstock.control import boundary
from penstock.control.boundary import Connect, SendFrame


def _view() -> metrics.MetricsView:
    return metrics.MetricsView(window_ms=1_000, windows=2, version="1.0", start_ms=0)


class Rig:
    """An engine that is stepped by hand, with a connection that control requests of some size are sent on."""

    def __init__(self) -> None:
        self.engine = Engine(ProducerConfig(bootstrap_servers="one:9092").settings, seed=1)
        self.stepped = SteppedEngine(self.engine)
        self._do(Connect(1, 7, "10.0.0.1", 9092, 1_000))
        self.stepped.accept(1)

    def send(self, size: int) -> None:
        self._do(SendFrame(1, size, bytes(size - 4), 1_000))

    def _do(self, command: boundary.Command) -> None:
        self.engine.exchange([command], 0)
        self.stepped.run_once()


def _largest(view: metrics.MetricsView, reader: object) -> float:
    sample = reader.read()  # type: ignore[attr-defined]
    return view.read(sample, flush_ns=0, metadata_age_s=0)["producer-metrics"]["request-size-max"]


def test_two_readers_have_separate_maxima() -> None:
    rig = Rig()
    one, other = rig.engine.stats_reader(), rig.engine.stats_reader()
    views = _view(), _view()
    rig.send(700)
    assert _largest(views[0], one) == 700
    rig.send(300)
    assert _largest(views[0], one) == 700, "still in the window"
    assert _largest(views[1], other) == 700, "the first reader's readings took nothing from it"


def test_each_reader_has_windows_of_its_own() -> None:
    rig = Rig()
    one, other = rig.engine.stats_reader(), rig.engine.stats_reader()
    views = _view(), _view()
    rig.send(700)
    assert _largest(views[0], one) == 700
    rig.stepped.set_now_us(10_000_000)
    rig.send(300)
    assert _largest(views[0], one) == 300, "its window with 700 is over"
    assert _largest(views[1], other) == 700, "this reader has not read it before"


def test_all_readers_share_the_totals_and_a_dropped_reader_changes_nothing() -> None:
    rig = Rig()
    one, other = rig.engine.stats_reader(), rig.engine.stats_reader()
    rig.send(700)
    del one
    assert other.read()["nodes"][7]["requests"] == (1, 700.0, 700.0)
    assert other.read()["nodes"][7]["requests"] == (1, 700.0, 0.0)
