"""Can the simulation find bugs? Each mutant breaks one rule on purpose; a seed must notice.

    python -m simulation.mutants                    # all of them; those in Rust are built, which takes minutes
    python -m simulation.mutants NAME …             # some
    python -m simulation.mutants --search 400       # look for a seed where none is known

A mutant is a change of source text. `tests/simulation/test_mutants.py` checks that every change still applies, and runs
those in Python, which need no build.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulation.plan import ASYNCIO_SEEDS

ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A rule, how it is broken, and a seed that notices."""

    name: str
    rule: str
    file: str
    old: str
    new: str
    seed: int = -1
    """Known to catch it; -1: none is known."""
    compression: str = "none"
    """The codec of the run; it is not drawn, so that seeds keep their meaning."""
    first: int = 0
    """From where on to look for a seed."""
    temper: str | None = None
    """The kind of trouble, if it is not drawn."""
    test: str = ""
    """A file of Rust's tests that notices, where no seed is known."""

    @property
    def is_native(self) -> bool:
        """Whether it takes a build."""
        return self.file.endswith(".rs")

    def source(self, root: Path = ROOT) -> str:
        """The file, changed; raises `ValueError` if the change does not apply any more."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"mutant {self.name}: {self.file} has {text.count(self.old)} places like {self.old!r}")
        return text.replace(self.old, self.new)


DELIVERY: Final = "src/penstock/control/delivery.py"
LANE: Final = "rust/core/src/lane/"
ENGINE: Final = "rust/core/src/engine/"

MUTANTS: Final = (
    Mutant(
        "forget-the-unknown",
        "a batch of unknown fate is never renumbered (the control plane's half)",
        DELIVERY,
        'if not choice.remains or batch.fate != "unknown":',
        "if True:",
        26,
    ),
    Mutant(
        "close-ranks-always",
        "a gap that may be no gap takes a new epoch",
        DELIVERY,
        "if doubtful or unknown_behind or report.numbers_used_elsewhere or first_sequence != expected:",
        "if False:",
        0,
    ),
    Mutant(
        "close-ranks-never",
        "behind a batch that failed for certain its successors close ranks",
        DELIVERY,
        "    first_sequence = first_remaining if first_remaining >= 0 else first_failed\n",
        '    return "as is", 0\n    first_sequence = first_remaining if first_remaining >= 0 else first_failed\n',
        128,
    ),
    Mutant(
        "send-what-has-expired",
        "records that were reported as failed are not sent again",
        DELIVERY,
        "    if batch.expired:\n",
        "    if False:\n",
        4,
        temper="expiry",
    ),
    Mutant(
        "no-new-epoch",
        "a new epoch begins at sequence 0",
        DELIVERY,
        "renumber = Renumber(*fresh, 0)",
        "renumber = Renumber(report.producer_id, report.epoch, 0)",
        0,
    ),
    Mutant(
        "same-epoch-again",
        "each new epoch is higher than the last",
        "src/penstock/control/identity.py",
        "return Identity(self.current.producer_id, self.current.epoch + 1)",
        "return Identity(self.current.producer_id, self.current.epoch)",
        0,
    ),
    Mutant(
        "an-error-stays",
        "the data plane is notified of a topic that has recovered",
        "src/penstock/control/topics.py",
        "return not (unchanged and self.fresh and not failed_before)",
        "return not (unchanged and self.fresh)",
        0,
    ),
    Mutant(
        "never-ask-again",
        "metadata that a failed request did not get is requested again",
        "src/penstock/control/metadata.py",
        "        self._in_flight = None\n        self._refresh_wanted = True\n",
        "        self._in_flight = frozenset()\n        self._refresh_wanted = True\n",
        0,
    ),
    Mutant(
        "fate-is-forgotten",
        "fate is sticky: the worst over all attempts counts",
        LANE + "answers.rs",
        "batch.fate = batch.fate.max(fate);",
        "batch.fate = fate;",
        0,
    ),
    Mutant(
        "errors-mean-rejected",
        "an error after the append leaves the fate open",
        LANE + "fate.rs",
        "            UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER if base_offset >= 0 => Self::Unknown,\n",
        "",
        0,
    ),
    Mutant(
        "an-old-topic-is-forgotten",
        "a record that may be in the log of a former topic of the name is not reported as not persisted",
        LANE + "fate.rs",
        "            self.former.push((left, numbering));\n",
        "            let _ = (left, numbering);\n",
        276,
        temper="everything",
    ),
    Mutant(
        "a-name-is-an-id",
        "a request that names its topic may arrive in the recreated topic",
        LANE + "fate.rs",
        "if self.topic_id == topic_id || self.by_name {",
        "if self.topic_id == topic_id {",
        276,
        temper="everything",
    ),
    Mutant(
        "open-too-early",
        "a lane is handed over when nothing of it is in flight any more",
        LANE + "answers.rs",
        "if self.state != LaneState::Settling || !self.in_flight.is_empty() {",
        "if self.state != LaneState::Settling {",
        0,
    ),
    Mutant(
        "many-before-the-first",
        "until the first success one batch is in flight",
        LANE + "readiness.rs",
        "let unconfirmed = rules.idempotent && !self.numbers.is_confirmed();",
        "let unconfirmed = false;",
        78,
    ),
    Mutant(
        "two-while-probing",
        "after a lost connection a lane has one batch in flight until a success",
        LANE + "readiness.rs",
        "let limit = if unconfirmed || self.probing { 1 } else { rules.max_in_flight };",
        "let limit = if unconfirmed { 1 } else { rules.max_in_flight };",
        test="recovery",
    ),
    Mutant(
        "a-full-window-after-a-loss",
        "after a loss a connection begins with one request",
        ENGINE + "connections.rs",
        "connection.open_window(if broker.probing { 1 } else { full }, full);",
        "connection.open_window(full, full);",
        test="recovery",
    ),
    Mutant(
        "every-end-is-a-loss",
        "a connection that ends with nothing in flight starts no probing",
        ENGINE + "connections.rs",
        "if carried && !expected {",
        "if carried || !expected {",
        test="recovery",
    ),
    Mutant(
        "time-outs-from-queueing",
        "a request's time begins when the one before it is answered",
        "rust/core/src/io/connection.rs",
        "        self.begin_waiting(now_us);\n        self.requests.pop_front()\n",
        "        let _ = now_us;\n        self.requests.pop_front()\n",
        test="recovery",
    ),
    Mutant(
        "a-handshake-ends-the-backoff",
        "the reconnect backoff falls at the first answered Produce",
        "src/penstock/control/connections.py",
        "        if not peer.purpose.carries_records:\n            peer.failures = 0\n",
        "        peer.failures = 0\n",
        26,
    ),
    Mutant(
        "two-leaders-at-once",
        "nothing goes to a new leader before the old one's answers are in",
        LANE + "readiness.rs",
        "if self.in_flight.len() >= limit || (!self.in_flight.is_empty() && self.moved()) {",
        "if self.in_flight.len() >= limit {",
        16,
    ),
    Mutant(
        "adopt-at-once",
        "an identity is adopted by a quiescent lane only",
        LANE + "sending.rs",
        "if self.identity() != target && self.quiescent() {",
        "if self.identity() != target {",
        78,
    ),
    Mutant(
        "go-on-sending",
        "trouble stops a lane until it is decided",
        LANE + "state.rs",
        "    (Flowing, Trouble, Settling),\n",
        "    (Flowing, Trouble, Flowing),\n",
        0,
    ),
    Mutant(
        "sequences-skip",
        "sequences are contiguous",
        LANE + "numbers.rs",
        "self.next_sequence = advance_sequence(first, count);",
        "self.next_sequence = advance_sequence(first, count + 1);",
        1_282,
    ),
    Mutant(
        "lost-means-unsent",
        "a request that was written whole may have been processed",
        "rust/core/src/io/connection.rs",
        "        if self.written >= request.to {\n            Fate::Unknown\n",
        "        if self.written >= request.to {\n            Fate::Unsent\n",
        7,
    ),
    Mutant(
        "merge-two-answers",
        "an answer belongs to the partition that it names",
        ENGINE + "answers.rs",
        "Some(place) => answers.push((place, answer)),",
        "Some(_) => answers.push((batches.len() - 1 - answers.len(), answer)),",
        1,
    ),
    Mutant(
        "expired-in-flight-is-certain",
        "a batch that expires in flight may be in the log",
        ENGINE + "expiry.rs",
        "            failure.possibly_persisted |= stage == IN_FLIGHT;\n            self.shared.fail",
        "            self.shared.fail",
        0,
    ),
    Mutant(
        "expiry-leaves-a-gap",
        "the control plane decides about a batch that expires after it was sent",
        LANE + "expiry.rs",
        "        if settles {\n            self.on(LaneEvent::Trouble);\n        }\n",
        "        let _ = settles;\n",
        33,
    ),
    Mutant(
        "deadlines-wait",
        "every future resolves by delivery.timeout.ms",
        ENGINE + "expiry.rs",
        "let Some(limit_us) = now_us.checked_sub(self.shared.config.rules.delivery_timeout_us) else { return };",
        "let Some(limit_us) = now_us.checked_sub(2 * self.shared.config.rules.delivery_timeout_us) else { return };",
        0,
    ),
    Mutant(
        "deadlines-take-one-more",
        "no record fails before its own delivery.timeout.ms",
        LANE + "batch.rs",
        "self.arrivals.due(age_us).min(self.live())",
        "self.arrivals.due(age_us).saturating_add(1).min(self.live())",
        1,
        temper="expiry",
    ),
    Mutant(
        "front-of-a-sent-batch-is-certain",
        "records that fail stay in their batch if it was sent, and may be sent again with it",
        ENGINE + "expiry.rs",
        "failure.possibly_persisted |= batch.attempts() > 0;",
        "",
        4,
        temper="expiry",
    ),
    Mutant(
        "failed-records-are-sent",
        "a batch leaves without the records that were reported as not persisted",
        LANE + "sending.rs",
        "        batch.drop_failed();\n",
        "",
        2,
        temper="expiry",
    ),
    Mutant(
        "offsets-ignore-failed-records",
        "an offset is that of the record in the log",
        LANE + "batch.rs",
        "*base_offset += i64::from(self.failed);",
        "*base_offset += 0;",
        1,
        temper="expiry",
    ),
    Mutant(
        "memory-leaks",
        "buffer.memory comes back",
        "rust/core/src/shared/resolving.rs",
        "        if callbacks.is_empty() {\n            self.release(charged);\n",
        "        if callbacks.is_empty() {\n            let _ = charged;\n",
        0,
    ),
    Mutant(
        "callbacks-get-lost",
        "a callback runs exactly once",
        "rust/core/src/outcome/completion.rs",
        "let callbacks = std::mem::take(&mut watchers.callbacks);\n        let notices",
        "let callbacks = Vec::new();\n        let notices",
        0,
    ),
    Mutant(
        "a-worker-keeps-memory",
        "a batch that expires while it is compressed gives its memory back",
        LANE + "content.rs",
        "        stub.ticket.owed.store(charged, Ordering::Release);\n",
        "",
        25,
        compression="gzip",
    ),
    Mutant(
        "compressed-and-forgotten",
        "a lane is announced when its batch is compressed",
        "rust/core/src/shared/mod.rs",
        "            self.announce(lane, &mut inner, self.clock.now_us());\n        }\n        is_wanted",
        "        }\n        is_wanted",
        0,
        compression="zstd",
    ),
    Mutant(
        "children-swap-places",
        "a split's children keep their order, whichever is compressed first",
        ENGINE + "decisions.rs",
        "remaining.extend(children);",
        "remaining.extend(children.into_iter().rev());",
        24,
        compression="lz4",
    ),
    Mutant(
        "growth-past-the-charge",
        "a batch is charged for what it grows by",
        "rust/core/src/append/room.rs",
        "let Some(bytes) = chunks.find(|&bytes| self.charge(bytes, grant)) else { return Extended::NoMemory };\n"
        "        builder.extend(self.pool.buffer(bytes), bytes);\n"
        "        batch.charge(bytes);\n",
        "let Some(bytes) = chunks.next() else { return Extended::NoMemory };\n"
        "        let _ = grant;\n"
        "        builder.extend(self.pool.buffer(bytes), bytes);\n",
        2,
    ),
    Mutant(
        "batch-size-goes-unnoticed",
        "a batch of batch.size leaves at once, however far it may grow",
        "rust/core/src/append/room.rs",
        "if filled.opened || filled.grown {\n",
        "if filled.opened {\n",
        test="growth",
    ),
    Mutant(
        "a-refusal-teaches-nothing",
        "batches behind one that was too large become no larger than the topic takes",
        ENGINE + "decisions.rs",
        "topic.learn_refused(batch.size(), inner.largest_acknowledged())",
        "batch.size() / 2",
        test="growth",
    ),
    Mutant(
        "a-grant-is-kept",
        "a waiter for memory in an event loop that is cancelled passes its grant on",
        "rust/python/src/send/memory.rs",
        "        if core.shared.pool.cancel(&self.waiter)\n",
        "        if core.is_foreign()\n",
        200_004,
        first=ASYNCIO_SEEDS,
    ),
    Mutant(
        "a-cancelled-future-takes-the-callback",
        "cancelling a future takes nothing else back",
        "rust/python/src/aio/future.rs",
        "let mine = |token| LOOP_CALLS.is_done(token);",
        "let mine = |_token| true;",
        200_000,
        first=ASYNCIO_SEEDS,
    ),
    Mutant(
        "a-burst-loses-its-end",
        "a loop makes all calls that are due, however many",
        "src/penstock/facade/loops.py",
        "            if more and not loop.is_closed():\n",
        "            if more and loop.is_closed():\n",
        200_027,
        first=ASYNCIO_SEEDS,
    ),
    Mutant(
        "send-what-was-given-up",
        "a send that was cancelled while it waited is not sent",
        "src/penstock/aio.py",
        "            pending.refuse(error)\n            raise\n",
        "            pending.attempt(loops.here()[1], int)\n            raise\n",
        200_013,
        first=ASYNCIO_SEEDS,
    ),
)


@contextmanager
def mutated(mutant: Mutant, target: Path) -> Iterator[dict[str, str]]:
    """The environment in which Python finds the mutant; a native one is built below `target`."""
    with tempfile.TemporaryDirectory(prefix="penstock-mutant-") as folder:
        tree = Path(folder)
        shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
        if mutant.is_native:
            # In one place, so that cargo builds again only what changed.
            work = target / "tree"
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(ROOT / "rust", work / "rust", ignore=shutil.ignore_patterns("target", "fuzz"))
            for name in ("Cargo.toml", "Cargo.lock"):
                shutil.copy(ROOT / name, work / name)
            (work / mutant.file).write_text(mutant.source())
            # Copies keep their times: else a mutant of the other crate would be built with the last mutant of this one.
            (work / "rust/core/src/lib.rs").touch()
            _build(work, target, tree / "src" / "penstock")
        else:
            (tree / mutant.file).write_text(mutant.source())
        yield {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree / "src"), str(ROOT / "tests")])}


def _build(work: Path, target: Path, package: Path) -> None:
    command = ["cargo", "build", "--quiet", "-p", "penstock-python", "--features", "pyo3/extension-module"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-Awarnings"}
    subprocess.run(command, cwd=work, env=environment, check=True)
    (library,) = (file for file in (target / "debug").glob("*_native.*") if re.search(r"\.(so|dylib|dll)$", file.name))
    for module in package.glob("_native.*"):
        if module.suffix != ".pyi":
            module.unlink()
    shutil.copy(library, package / "_native.abi3.so")


def catches(mutant: Mutant, environment: dict[str, str], seeds: Iterable[int], together: int = 1) -> int | None:
    """The first of these seeds at which a promise is broken; None if all are kept."""
    for seed in seeds:
        command = [sys.executable, "-m", "simulation", f"{seed}:{seed + together}", "--compression", mutant.compression]
        command += ["--temper", mutant.temper] if mutant.temper else []
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            failed = re.search(r"failed: \[(\d+)", done.stdout)
            if failed is None:  # it did not get as far as a verdict: that is no find
                raise RuntimeError(f"the simulation did not run:\n{done.stdout}{done.stderr}")
            return int(failed[1])
    return None


def fails_its_test(mutant: Mutant, target: Path) -> bool:
    """Whether the test notices the mutant whose tree `mutated` has left below `target`."""
    command = ["cargo", "test", "--quiet", "-p", "penstock-core", "--test", mutant.test]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "RUSTFLAGS": "-Awarnings"}
    done = subprocess.run(command, cwd=target / "tree", env=environment, capture_output=True, text=True, check=False)
    return "test result: FAILED" in done.stdout


def main() -> int:
    """Try mutants; how many were not caught."""
    parser = argparse.ArgumentParser(prog="simulation.mutants", description="Break rules; see the simulation notice.")
    parser.add_argument("names", nargs="*", help="mutants to try (default: all)")
    parser.add_argument("--search", type=int, default=400, metavar="N", help="seeds to try if the known one fails")
    arguments = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if not arguments.names or mutant.name in arguments.names]
    survived = []
    for mutant in chosen:
        with mutated(mutant, ROOT / "target" / "mutants") as environment:
            if mutant.test and fails_its_test(mutant, ROOT / "target" / "mutants"):
                print(f"{mutant.name:28} {f'test {mutant.test}':10} {mutant.rule}", flush=True)
                continue
            seed = catches(mutant, environment, [mutant.seed]) if mutant.seed >= 0 else None
            if seed is None:
                seed = catches(
                    mutant, environment, range(mutant.first, mutant.first + arguments.search, 20), together=20
                )
        print(f"{mutant.name:28} {f'seed {seed}' if seed is not None else 'SURVIVES':10} {mutant.rule}", flush=True)
        if seed is None:
            survived.append(mutant.name)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} caught{f'; not: {survived}' if survived else ''}")
    return len(survived)


if __name__ == "__main__":
    sys.exit(main())
