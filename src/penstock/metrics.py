"""`metrics()`: the data plane's counters under the Java producer's names.

Names, groups and tags are those of the Java client (`SenderMetricsRegistry`, `Selector`, `BufferPool`). Totals count from
the start of the producer. Rates (per second), averages and maxima cover the last metrics.num.samples windows of
metrics.sample.window.ms; a window begins when `metrics()` is called, so that a producer without readers pays nothing.
Each reader (`StatsReader`, with a `MetricsView`) has windows and maxima of its own.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from penstock import _threads

Metrics: TypeAlias = dict[str, dict[str, float]]
"""``{group: {name: value}}``; names that have more tags than client-id carry them: ``record-send-total{topic=flights}``."""

_Sample: TypeAlias = Mapping[str, Any]

NOT_APPLICABLE: Final[Mapping[str, str]] = {
    "reauthentication-latency-avg": "SASL is not built yet; 0",
    "reauthentication-latency-max": "SASL is not built yet; 0",
    "failed-authentication-rate": "SASL is not built yet; 0",
    "failed-authentication-total": "SASL is not built yet; 0",
    "failed-reauthentication-rate": "SASL is not built yet; 0",
    "failed-reauthentication-total": "SASL is not built yet; 0",
    "successful-authentication-no-reauth-total": "SASL is not built yet; 0",
    "successful-authentication-rate": "SASL is not built yet; 0",
    "successful-authentication-total": "SASL is not built yet; 0",
    "successful-reauthentication-rate": "SASL is not built yet; 0",
    "successful-reauthentication-total": "SASL is not built yet; 0",
    "txn-abort-time-ns-total": "transactions are not built yet; 0",
    "txn-begin-time-ns-total": "transactions are not built yet; 0",
    "txn-commit-time-ns-total": "transactions are not built yet; 0",
    "txn-init-time-ns-total": "transactions are not built yet; 0",
    "txn-prepare-time-ns-total": "transactions are not built yet; 0",
    "txn-send-offsets-time-ns-total": "transactions are not built yet; 0",
    "commit-id": "a text in Java; not a number, so 0 here: see penstock.__version__",
    "version": "a text in Java; here the version as a number, major + minor / 1000",
}
"""Names that exist but mean less than in Java, with the reason."""


class _Point(NamedTuple):
    now_ms: float
    sample: _Sample


class MetricsView:
    """Windows over an engine's samples. Thread-safe."""

    def __init__(self, *, window_ms: int, windows: int, version: str, start_ms: int) -> None:
        """`window_ms` × `windows` is the time that rates and averages look back."""
        self._window_ms = window_ms
        self._windows = windows
        self._version = version
        self._start_ms = start_ms
        self._lock = _threads.Lock()
        self._points: deque[_Point] = deque()
        self._maxima: deque[tuple[float, dict[str, float]]] = deque()

    def read(self, sample: _Sample, *, flush_ns: int, metadata_age_s: float) -> Metrics:
        """All metrics, from one reading of a `StatsReader` and the counters of the facade."""
        with self._lock:
            now_ms = float(sample["now_ms"])
            horizon_ms = now_ms - self._window_ms * self._windows
            self._maxima.append((now_ms, {path: meter[2] for path, meter in _meters(sample)}))
            while self._maxima and self._maxima[0][0] < horizon_ms:
                self._maxima.popleft()
            while len(self._points) > 1 and self._points[1].now_ms <= horizon_ms:
                self._points.popleft()
            before = self._points[0] if self._points else _Point(0.0, {})
            # A point per window at most: more points add nothing to a rate over whole windows.
            if not self._points or now_ms - self._points[-1].now_ms >= self._window_ms:
                self._points.append(_Point(now_ms, sample))
            view = _View(sample, before, now_ms, self._maximum)
        metrics = {
            "app-info": {"commit-id": 0.0, "start-time-ms": float(self._start_ms), "version": _number(self._version)},
            "producer-metrics": view.producer(flush_ns, metadata_age_s),
            "producer-node-metrics": view.nodes(),
            "producer-topic-metrics": view.topics(),
        }
        count = sum(len(group) for group in metrics.values()) + 1
        metrics["kafka-metrics-count"] = {"count": float(count)}
        return metrics

    def _maximum(self, path: str) -> float:
        return max((seen.get(path, 0.0) for _, seen in self._maxima), default=0.0)


def _number(version: str) -> float:
    major, minor, *_ = (int(part) for part in version.split(".")[:2])
    return major + minor / 1000


def _meters(sample: _Sample, prefix: str = "") -> Iterator[tuple[str, tuple[int, float, float]]]:
    for name, value in sample.items():
        if isinstance(value, tuple):
            yield prefix + name, value
        elif isinstance(value, dict):
            for key, entry in value.items():
                yield from _meters(entry, f"{prefix}{name}/{key}/")


def _find(sample: _Sample, path: str) -> Any:
    at: Any = sample
    for part in path.split("/"):
        if not isinstance(at, dict):
            return None
        at = at.get(part, at.get(int(part)) if part.lstrip("-").isdigit() else None)
    return at


class _View:
    """One reading: totals now, differences to the point where the windows begin."""

    def __init__(self, sample: _Sample, before: _Point, now_ms: float, maximum: Any) -> None:
        self._now = sample
        self._before = before.sample
        self._seconds = max((now_ms - before.now_ms) / 1000, 1e-9)
        self._maximum = maximum

    def _total(self, path: str) -> float:
        value = _find(self._now, path)
        return float(value[0] if isinstance(value, tuple) else value or 0)

    def _delta(self, path: str) -> float:
        before = _find(self._before, path)
        return self._total(path) - float(before[0] if isinstance(before, tuple) else before or 0)

    def _rate(self, path: str) -> float:
        return self._delta(path) / self._seconds

    def _average(self, path: str) -> float:
        """NaN without a value, as in Java."""
        now, before = _find(self._now, path), _find(self._before, path)
        if now is None:
            return float("nan")
        count, total = now[0] - (before[0] if before else 0), now[1] - (before[1] if before else 0.0)
        return total / count if count else float("nan")

    def _sum(self, kind: str, field: str, what: str = "total") -> float:
        paths = [f"{kind}/{key}/{field}" for key in self._now.get(kind, {})]
        return sum(self._delta(path) if what == "delta" else self._total(path) for path in paths)

    def _sum_rate(self, kind: str, field: str) -> float:
        return self._sum(kind, field, "delta") / self._seconds

    def _all_nodes(self, field: str) -> tuple[float, float]:
        """Average and maximum of a per-node meter over all nodes."""
        count = total = largest = 0.0
        for key in self._now.get("nodes", {}):
            path = f"nodes/{key}/{field}"
            now, before = _find(self._now, path), _find(self._before, path)
            count += now[0] - (before[0] if before else 0)
            total += now[1] - (before[1] if before else 0.0)
            largest = max(largest, self._maximum(path))
        return (total / count if count else float("nan"), largest)

    def producer(self, flush_ns: int, metadata_age_s: float) -> dict[str, float]:
        requests_avg, requests_max = self._all_nodes("requests")
        latency_avg, latency_max = self._all_nodes("latency_ms")
        io_wait, io = self._rate("io_wait_ns") / 1e9, self._rate("io_ns") / 1e9
        selects = self._delta("selects")
        traffic = self._sum("nodes", "requests") + self._sum("nodes", "responses")
        traffic_rate = self._sum_rate("nodes", "requests") + self._sum_rate("nodes", "responses")
        values = dict.fromkeys((name for name in NOT_APPLICABLE if name not in _ELSEWHERE), 0.0)
        values |= {
            "batch-size-avg": self._average("batch_size"),
            "batch-size-max": self._maximum("batch_size"),
            "batch-split-rate": self._rate("splits"),
            "batch-split-total": self._total("splits"),
            "buffer-available-bytes": self._total("buffer_available_bytes"),
            "buffer-exhausted-rate": self._rate("buffer_exhausted"),
            "buffer-exhausted-total": self._total("buffer_exhausted"),
            "buffer-total-bytes": self._total("buffer_total_bytes"),
            "bufferpool-wait-ratio": self._rate("buffer_wait_ns") / 1e9,
            "bufferpool-wait-time-ns-total": self._total("buffer_wait_ns"),
            "compression-rate-avg": self._average("compression_rate"),
            "connection-close-rate": self._rate("connections_closed"),
            "connection-close-total": self._total("connections_closed"),
            "connection-count": self._total("connections"),
            "connection-creation-rate": self._rate("connections_created"),
            "connection-creation-total": self._total("connections_created"),
            "flush-time-ns-total": float(flush_ns),
            "incoming-byte-rate": self._sum_rate("nodes", "incoming_bytes"),
            "incoming-byte-total": self._sum("nodes", "incoming_bytes"),
            "io-ratio": io,
            "io-time-ns-avg": self._delta("io_ns") / selects if selects else float("nan"),
            "io-time-ns-total": self._total("io_ns"),
            "io-wait-ratio": io_wait,
            "io-wait-time-ns-avg": self._delta("io_wait_ns") / selects if selects else float("nan"),
            "io-wait-time-ns-total": self._total("io_wait_ns"),
            "metadata-age": metadata_age_s,
            "metadata-wait-time-ns-total": self._total("metadata_wait_ns"),
            "network-io-rate": traffic_rate,
            "network-io-total": traffic,
            "outgoing-byte-rate": self._sum_rate("nodes", "outgoing_bytes"),
            "outgoing-byte-total": self._sum("nodes", "outgoing_bytes"),
            "produce-throttle-time-avg": self._average("throttle_time_ms"),
            "produce-throttle-time-max": self._maximum("throttle_time_ms"),
            "record-error-rate": self._sum_rate("topics", "errors"),
            "record-error-total": self._sum("topics", "errors"),
            "record-queue-time-avg": self._average("queue_time_ms"),
            "record-queue-time-max": self._maximum("queue_time_ms"),
            "record-retry-rate": self._sum_rate("topics", "retries"),
            "record-retry-total": self._sum("topics", "retries"),
            "record-send-rate": self._sum_rate("topics", "records"),
            "record-send-total": self._sum("topics", "records"),
            "record-size-avg": self._average("record_size"),
            "record-size-max": self._maximum("record_size"),
            "records-per-request-avg": self._average("records_per_request"),
            "request-latency-avg": latency_avg,
            "request-latency-max": latency_max,
            "request-rate": self._sum_rate("nodes", "requests"),
            "request-size-avg": requests_avg,
            "request-size-max": requests_max,
            "request-total": self._sum("nodes", "requests"),
            "requests-in-flight": self._total("in_flight"),
            "response-rate": self._sum_rate("nodes", "responses"),
            "response-total": self._sum("nodes", "responses"),
            "select-rate": self._rate("selects"),
            "select-total": self._total("selects"),
            "waiting-threads": self._total("waiting_threads"),
        }
        return values

    def nodes(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for node in self._now.get("nodes", {}):
            path = f"nodes/{node}"
            for name, value in {
                "incoming-byte-rate": self._rate(f"{path}/incoming_bytes"),
                "incoming-byte-total": self._total(f"{path}/incoming_bytes"),
                "outgoing-byte-rate": self._rate(f"{path}/outgoing_bytes"),
                "outgoing-byte-total": self._total(f"{path}/outgoing_bytes"),
                "request-latency-avg": self._average(f"{path}/latency_ms"),
                "request-latency-max": self._maximum(f"{path}/latency_ms"),
                "request-rate": self._rate(f"{path}/requests"),
                "request-size-avg": self._average(f"{path}/requests"),
                "request-size-max": self._maximum(f"{path}/requests"),
                "request-total": self._total(f"{path}/requests"),
                "response-rate": self._rate(f"{path}/responses"),
                "response-total": self._total(f"{path}/responses"),
            }.items():
                values[f"{name}{{node-id=node-{node}}}"] = value
        return values

    def topics(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for topic in self._now.get("topics", {}):
            path = f"topics/{topic}"
            for name, value in {
                "byte-rate": self._rate(f"{path}/bytes"),
                "byte-total": self._total(f"{path}/bytes"),
                "compression-rate": self._average(f"{path}/compression_rate"),
                "record-error-rate": self._rate(f"{path}/errors"),
                "record-error-total": self._total(f"{path}/errors"),
                "record-retry-rate": self._rate(f"{path}/retries"),
                "record-retry-total": self._total(f"{path}/retries"),
                "record-send-rate": self._rate(f"{path}/records"),
                "record-send-total": self._total(f"{path}/records"),
            }.items():
                values[f"{name}{{topic={topic}}}"] = value
        return values


_ELSEWHERE: Final = frozenset({"commit-id", "version"})
"""Of `NOT_APPLICABLE`, those of another group than producer-metrics."""
