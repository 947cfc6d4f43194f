"""Apache Kafka's jars on this machine: downloaded once with Maven, shared by every run and every process.

Only `pom.xml` beside this file names the Kafka version. The jars are in `<repository>/.cache/kafka/<version>/libs`; a
stamp with the pom's digest makes the second run instant, and a changed pom causes a new download.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
POM = HERE / "pom.xml"
CACHE = REPOSITORY / ".cache" / "kafka"

MINIMUM_JAVA = 17
DOWNLOAD_TIMEOUT_S = 600.0


class MissingToolError(RuntimeError):
    """A program that the user has to install is missing; the message names it."""


def kafka_version() -> str:
    """The Kafka version in `pom.xml`."""
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    version = ElementTree.parse(POM).findtext("m:properties/m:kafka.version", namespaces=namespace)
    if version is None:
        raise ValueError(f"{POM} has no property kafka.version")
    return version


def java() -> str:
    """The Java launcher: `$JAVA_HOME/bin/java`, or the one on PATH; at least Java 17."""
    executable = _jdk_tool("java")
    # `java -version` has answered on stderr, quoted, since 1.0: openjdk version "17.0.15" 2025-04-15
    answer = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    match = re.search(r'version "(\d+)', answer)
    if match is None or int(match.group(1)) < MINIMUM_JAVA:
        raise MissingToolError(f"Java {MINIMUM_JAVA} or newer is needed; {executable} -version says: {answer.strip()}")
    return executable


def javac() -> str:
    """The Java compiler; a runtime without it (JRE) is not enough for the Java judge."""
    return _jdk_tool("javac")


def _jdk_tool(name: str) -> str:
    home = os.environ.get("JAVA_HOME")
    if home:
        candidate = Path(home) / "bin" / name
        if candidate.is_file():
            return str(candidate)
    found = shutil.which(name)
    if found is None:
        raise MissingToolError(
            f"`{name}` is missing: the tests against a real Kafka need a JDK of version {MINIMUM_JAVA} or newer, "
            "on PATH or in JAVA_HOME"
        )
    return found


def libs() -> Path:
    """The folder with Kafka's jars; downloads them if this is the first call on this checkout.

    Raises:
        MissingToolError: Maven is needed for the download and is not installed.
        RuntimeError: the download failed; the message has Maven's output.
    """
    home = CACHE / kafka_version()
    target, stamp = home / "libs", home / "libs.stamp"
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()
    if _stamped(stamp, digest):
        return target
    with exclusive(home / "libs.lock"):
        # The previous holder of the lock has probably done the work.
        if not _stamped(stamp, digest):
            stamp.unlink(missing_ok=True)
            _download(target)
            stamp.write_text(digest)
    return target


def classpath() -> str:
    """Kafka's jars as a Java class path."""
    return f"{libs()}{os.sep}*"


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes; the kernel releases it when its holder ends, so it cannot go stale."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _stamped(stamp: Path, digest: str) -> bool:
    try:
        return stamp.read_text() == digest
    except FileNotFoundError:
        return False


def _download(target: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            "`mvn` (Apache Maven) is missing: it downloads Apache Kafka's jars for the tests against a real Kafka"
        )
    # Download beside the target and rename: an interrupted run leaves no partial folder under the final name.
    staging = Path(tempfile.mkdtemp(prefix="libs-", dir=target.parent))
    try:
        command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={staging}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0 or not any(staging.glob("kafka-clients-*.jar")):
            raise RuntimeError(f"Maven could not fetch Kafka's jars (exit {done.returncode}):\n{done.stdout}")
        staging.chmod(0o755)  # mkdtemp's 0700 would lock out other users of the checkout
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
