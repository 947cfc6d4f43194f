"""A second interpreter in the process, as mod_wsgi creates them: it cannot import Penstock, and the first one's producers
are not affected."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from facade_support import Log, MakeTopic, run_script

import penstock
from penstock.devbroker import RunningCluster

PRELUDE = """
import sys

servers, report_file, *topics = sys.argv[1:]
if sys.version_info >= (3, 13):
    import _interpreters as interpreters

    def create():
        return interpreters.create("legacy")
else:
    import _xxsubinterpreters as interpreters

    def create():
        return interpreters.create(isolated=False)  # as mod_wsgi's, and as all were before CPython 3.12


def import_in_another(statement):
    "What the import says in a second interpreter, which ends then."
    program = f'''
import sys
try:
    {statement}
except ImportError as error:
    text = f"{{error.name}}: {{error}}; left: {{[name for name in sys.modules if name.partition('.')[0] == 'penstock']}}"
else:
    text = "imported"
with open({report_file!r}, "w") as file:
    file.write(text)
'''
    second = create()
    failed = interpreters.run_string(second, program)
    interpreters.destroy(second)
    assert failed is None, failed
    with open(report_file) as file:
        print(file.read())
"""

CASES = {
    "the main interpreter first": """
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=servers, max_block_ms=10_000)
        producer.send(topics[0], b"before").result(20)
        import_in_another("import penstock")
        import_in_another("from penstock import AsyncKafkaProducer")
        import_in_another("import penstock._native")
        import_in_another("from penstock.config import ProducerConfig")
    """,
    "the second interpreter first": """
        import_in_another("import penstock")
        import_in_another("import penstock._native")
        import_in_another("from penstock.testing import MockProducer")
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=servers, max_block_ms=10_000)
        producer.send(topics[0], b"before").result(20)
        import_in_another("import penstock.control.runtime")
    """,
}

# Uses the control thread, a callback thread, and the exit of the main interpreter.
AFTERWARDS = """
producer.send(topics[0], b"after").result(20)
producer.send(topics[1], b"new topic").result(20)
with KafkaProducer(bootstrap_servers=servers, max_block_ms=10_000, linger_ms=60_000) as other:
    other.send(topics[1], b"new producer", callback=lambda metadata, error: print("called back", error))
import asyncio
from penstock import AsyncKafkaProducer
async def main():
    async with AsyncKafkaProducer(bootstrap_servers=servers) as third:
        await third.send(topics[1], b"asyncio")
asyncio.run(main())
producer.send(topics[2], b"at exit", callback=lambda metadata, error: print("called back at exit", error))
"""


@pytest.mark.parametrize("case", CASES)
def test_a_second_interpreter_is_refused_with_a_reason(
    case: str, cluster: RunningCluster, new_topic: MakeTopic, log: Log, tmp_path: Path
) -> None:
    topics = [new_topic() for _ in range(3)]
    program = PRELUDE + textwrap.dedent(CASES[case]) + AFTERWARDS
    code, out, err = run_script(program, cluster.bootstrap_servers, str(tmp_path / "report_file"), *topics)
    assert (code, err) == (0, "")
    *refusals, called, at_exit = out.splitlines()
    assert len(refusals) == 4
    for refusal in refusals:
        assert refusal.startswith("penstock: penstock can only be imported in the main interpreter of a process")
        assert "WSGIApplicationGroup %{GLOBAL}" in refusal
        assert refusal.endswith("left: []")
    assert (called, at_exit) == ("called back None", "called back at exit None")
    assert log.values(topics[0]) == [b"before", b"after"]
    assert log.values(topics[1]) == [b"new topic", b"new producer", b"asyncio"]
    assert log.values(topics[2]) == [b"at exit"]


STAYS = """
from penstock import KafkaProducer
producer = KafkaProducer(bootstrap_servers=servers)
second = create()
failed = interpreters.run_string(second, "try: import penstock\\nexcept ImportError as error: print(error.name)")
assert failed is None, failed
producer.send(topics[0], b"value", callback=lambda metadata, error: print("called back", error))
"""


def test_exit_with_a_second_interpreter_that_still_exists(cluster: RunningCluster, topic: str) -> None:
    """The main interpreter ends the others."""
    code, out, _ = run_script(PRELUDE + STAYS, cluster.bootstrap_servers, "", topic)
    assert (code, out) == (0, "penstock\ncalled back None\n")


HIDE = """
sys.modules["_xxsubinterpreters"] = None
import _thread
vars(_thread).pop("_is_main_interpreter", None)
"""
CANNOT_TELL = f"""
{HIDE}
import penstock
del sys.modules["_xxsubinterpreters"]
import_in_another({"exec(" + repr(HIDE) + "); import penstock"!r})
print(penstock.__version__)
"""


def test_without_the_interpreters_module_the_native_module_refuses_the_second(tmp_path: Path) -> None:
    """As in a build of CPython 3.11 without the module that tells them apart: the second one is refused without a crash."""
    code, out, err = run_script(PRELUDE + CANNOT_TELL, "", str(tmp_path / "report_file"))
    assert (code, err) == (0, "")
    refusal, version = out.splitlines()
    assert "another interpreter of this process has imported penstock: only one can" in refusal
    assert version == penstock.__version__
