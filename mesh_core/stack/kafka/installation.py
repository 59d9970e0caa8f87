"""Java and the broker's jars: found, checked, fetched once for all stacks of the project."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

from mesh_core.settings import ROOT
from mesh_core.stack.errors import MissingPrerequisite, StackError
from mesh_core.stack.locks import exclusive

_HERE = Path(__file__).resolve().parent
_POM = _HERE / "pom.xml"
_OLDEST_JAVA = 17


def java() -> Path:
    """The java program: of JAVA_HOME, else the first on the path. Raises MissingPrerequisite."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if found is None or java_version(Path(found)) < _OLDEST_JAVA:
        state = "is missing" if found is None else f"at {found} is too old"
        raise MissingPrerequisite(
            f"Java {_OLDEST_JAVA} or newer, which runs the local Kafka, {state}.",
            remedy="Debian: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk, "
            "then set JAVA_HOME to its folder.",
        )
    return Path(found).resolve()


def java_version(program: Path) -> int:
    """The major version of a java program; 0 if it does not run."""
    release = program.resolve().parent.parent / "release"
    if release.is_file():
        text = release.read_text(errors="replace")
    else:
        text = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    match = re.search(r'(?:JAVA_VERSION="|version ")(\d+)', text)
    return int(match.group(1)) if match else 0


def jars() -> Path:
    """The folder of the broker's jars, fetched by Maven if absent. Raises MissingPrerequisite, StackError."""
    key = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".mesh" / "kafka" / key
    if folder.is_dir():
        return folder
    with exclusive(folder.parent / "lock", timeout_seconds=600):
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingPrerequisite(
            "Maven, which fetches the local Kafka, is missing.",
            remedy="Debian: apt-get install maven; macOS: brew install maven.",
        )
    temporary = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    done = subprocess.run(
        [
            maven,
            "-B",
            "-q",
            "-f",
            str(_POM),
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={temporary}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), done.stderr.strip())
        raise StackError(
            f"Maven could not fetch the local Kafka: {reason}",
            remedy="Check the network and Maven's settings.",
        )
    temporary.rename(folder)


def archive(program: Path) -> Path:
    """Where the classes that a broker loads are archived, for this Java and folder: it may not exist yet."""
    folder = jars()
    identity = f"{program}:{program.stat().st_mtime_ns}:{folder}"
    return folder / f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.jsa"


def command(main: str, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command that runs a class of the broker's jars, with the archive of its classes if there is one."""
    program = java()
    shared = archive(program)
    if shared.is_file():
        options = (*options, f"-XX:SharedArchiveFile={shared}", "-Xshare:auto")
    class_path = ":".join(str(jar) for jar in sorted(jars().glob("*.jar")))
    logging = f"-Dlog4j2.configurationFile={(_HERE / 'log4j2.properties').as_uri()}"
    return [str(program), *options, logging, "-cp", class_path, main, *arguments]
