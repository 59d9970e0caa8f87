"""What a laptop does to a local stack: crashes, half-written folders, taken ports, impatient users."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from mesh_core import stack
from mesh_core.stack import files, ports, privileges
from tests.conftest import OwnStack


@pytest.fixture(scope="module")
def _directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("stack")
    yield directory
    stack.reset(directory)


@pytest.fixture
def directory(_directory: Path) -> Path:
    """One folder for all tests here, its stack running: whatever a test breaks, the next start mends."""
    stack.start(_directory)
    return _directory


def works(addresses: stack.StackAddresses, directory: Path) -> bool:
    with psycopg.connect(addresses.database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (at timestamptz DEFAULT now())")
        connection.execute("INSERT INTO kept DEFAULT VALUES")
    return stack.kafka.address(directory) == addresses.kafka_bootstrap_servers


def pids(directory: Path) -> list[int | None]:
    return [service.pid for service in stack.status(directory)]


def test_a_second_start_changes_nothing(directory: Path) -> None:
    before = pids(directory)
    first = stack.start(directory)
    assert stack.start(directory) == first
    assert pids(directory) == before
    assert works(first, directory)


def test_two_starts_at_once_make_one_stack(directory: Path) -> None:
    stack.stop(directory)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(stack.start, [directory] * 3))
    assert len(found) == 1
    assert works(found.pop(), directory)


def test_both_killed_come_back_at_the_same_addresses_with_their_data(directory: Path) -> None:
    before = stack.start(directory)
    works(before, directory)
    stack.kafka.kill(directory)
    stack.postgres.kill(directory)
    assert not any(service.running for service in stack.status(directory))
    assert stack.start(directory) == before
    with psycopg.connect(before.database_url) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM kept").fetchone() == (True,)


def test_a_postmaster_killed_while_its_backends_work(directory: Path) -> None:
    url = stack.start(directory).database_url
    with closing(psycopg.connect(url)) as busy:
        backend = psutil.Process(busy.info.backend_pid)
        backend.send_signal(signal.SIGSTOP)  # it will not notice that its parent died
        stack.postgres.kill(directory)
        assert works(stack.start(directory), directory)
        assert not backend.is_running() or backend.status() == psutil.STATUS_ZOMBIE


def test_a_stale_pid_file_that_names_a_stranger(directory: Path) -> None:
    stack.postgres.stop(directory)
    stranger = os.getpid()
    (directory / "postgres" / "data" / "postmaster.pid").write_text(f"{stranger}\n{directory}\n1\n1\n\n*\n")
    assert works(stack.start(directory), directory)


def test_a_remembered_port_that_somebody_took(directory: Path) -> None:
    taken = stack.start(directory)
    stack.stop(directory)
    port = int(taken.kafka_bootstrap_servers.split(":")[1])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((ports.LOOPBACK, port))
        other.listen()
        moved = stack.start(directory)
    assert moved.kafka_bootstrap_servers != taken.kafka_bootstrap_servers
    assert moved.database_url == taken.database_url
    assert works(moved, directory)


@pytest.mark.parametrize("left", ["nothing", "metadata/meta.properties", "log/meta.properties"])
def test_a_half_written_kafka_folder_is_made_anew(directory: Path, left: str) -> None:
    stack.kafka.kill(directory)
    data = directory / "kafka" / "data"
    shutil.rmtree(data)
    (data / left).parent.mkdir(parents=True)
    (data / left).write_text("version=")
    (directory / "kafka" / "data.part").mkdir()
    assert works(stack.start(directory), directory)


def test_a_half_written_postgres_folder_is_made_anew(directory: Path) -> None:
    stack.postgres.kill(directory)
    shutil.rmtree(directory / "postgres" / "data")
    (directory / "postgres" / "data" / "base").mkdir(parents=True)
    (directory / "postgres" / "data.part").mkdir()
    assert works(stack.start(directory), directory)


def test_damaged_ports_and_settings_are_forgotten(directory: Path) -> None:
    stack.stop(directory)
    (directory / "postgres" / "ports.json").write_text('{"postgres": ')
    (directory / "kafka" / "ports.json").write_text("[]")
    assert works(stack.start(directory), directory)


def test_a_start_that_was_killed_half_way(directory: Path) -> None:
    stack.reset(directory)
    script = f"from pathlib import Path; from mesh_core import stack; stack.start(Path({str(directory)!r}))"
    for seconds in (0.4, 0.8, 1.2):
        with subprocess.Popen([sys.executable, "-c", script], start_new_session=True) as starting:
            time.sleep(seconds)
            os.killpg(starting.pid, signal.SIGKILL)
    assert works(stack.start(directory), directory)


def test_settings_of_postgres_take_effect_and_are_remembered(directory: Path) -> None:
    stack.stop(directory)
    for given in ({"work_mem": "5MB"}, None):
        url = stack.start(directory, postgres_settings=given).database_url
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
        stack.postgres.stop(directory)


def test_a_wrong_setting_of_postgres_is_told(directory: Path) -> None:
    stack.postgres.stop(directory)
    with pytest.raises(stack.ServiceFailed, match="shared_buffer_size"):
        stack.start(directory, postgres_settings={"shared_buffer_size": "1"})
    assert works(stack.start(directory, postgres_settings={}), directory)


def test_a_wrong_password_is_refused(directory: Path) -> None:
    url = stack.start(directory).database_url
    password = url.split("@")[0].rsplit(":", 1)[1]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(password, "guess"))


def test_a_full_disk_is_told_before_anything_breaks(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.postgres.stop(directory)
    monkeypatch.setattr(files, "_NEEDED_BYTES", 10**18)
    with pytest.raises(stack.StackError, match="MB free"):
        stack.start(directory)


def test_without_java_the_sentence_says_how_to_install_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.kafka.stop(directory)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(stack.MissingPrerequisite, match=r"Java 17.*apt-get install .*brew install"):
        stack.kafka.start(directory)


def test_a_stack_of_its_own_starts_cold_within_seconds(own_stack: OwnStack) -> None:
    stack.reset(own_stack.directory)
    began = time.monotonic()
    addresses = stack.start(own_stack.directory)
    assert time.monotonic() - began < 10  # 2.5 s on two idle cores; the bound is for a busy machine
    assert works(addresses, own_stack.directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
def test_as_root_where_user_namespaces_are_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    folder = Path(tempfile.mkdtemp(prefix="mesh-stack-"))  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    try:
        first = stack.postgres.start(folder)
        stack.postgres.stop(folder)
        monkeypatch.setattr(shutil, "which", lambda name: None if name == "unshare" else which(name))
        privileges.without_root.cache_clear()
        assert stack.postgres.start(folder) == first
        assert psutil.Process(stack.postgres.pid(folder)).uids().real == 65534
    finally:
        privileges.without_root.cache_clear()
        stack.reset(folder)
        shutil.rmtree(folder)
