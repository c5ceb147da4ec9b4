"""A real PostgreSQL for one test session: its own data folder, its own port on loopback, gone afterwards."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.component.ports import free_port

ACCOUNTS = ("postgres", "nobody")  # PostgreSQL refuses to run as root


@dataclass
class Postgres:
    folder: Path
    port: int
    binaries: Path
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://shoal@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as out:
            self.process = subprocess.Popen(
                [
                    self.binaries / "postgres",
                    *("-D", self.folder / "data", "-p", str(self.port), "-k", self.folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "shared_buffers=16MB"),
                ],
                stdout=out,
                stderr=out,
                user=account(),
            )
        deadline = time.monotonic() + 30
        while not answers(self.port):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(3)  # SIGQUIT: at once, as if the machine had lost power
            self.process.wait(30)
            self.process = None

    def run(self, statement: str, database: str = "postgres") -> str:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "shoal", "-d", database]
        command: list[str | Path] = [self.binaries / "psql", *where, "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", statement]
        finished = subprocess.run(command, check=True, capture_output=True, text=True)
        return finished.stdout.strip()


def account() -> str | None:
    """Whom PostgreSQL runs as, when we are root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ACCOUNTS if name in known)


def find_binaries() -> Path:
    """Where initdb is; Debian's package is installed when it is nowhere and we may. Fails when there is none."""
    for attempt in range(2):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        on_path = shutil.which("initdb")
        if on_path:
            return Path(on_path).resolve().parent
        if attempt == 0 and os.getuid() == 0 and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "-q", "postgresql"], check=False, stdin=subprocess.DEVNULL)
    raise AssertionError("no PostgreSQL: install Debian's package 'postgresql', or put initdb on the PATH")


def create() -> Postgres:
    folder = Path(tempfile.mkdtemp(prefix="shoal-postgres-"))
    user = account()
    if user:
        shutil.chown(folder, user)
    folder.chmod(0o755)
    postgres = Postgres(folder, free_port(), find_binaries())
    initdb: list[str | Path] = [
        postgres.binaries / "initdb",
        "-D",
        folder / "data",
        "-U",
        "shoal",
        "-A",
        "trust",
        "-N",
        "-E",
        "UTF8",
    ]
    subprocess.run(initdb, check=True, capture_output=True, user=user, cwd=folder)
    postgres.start()
    return postgres


def remove(postgres: Postgres) -> None:
    postgres.stop()
    shutil.rmtree(postgres.folder, ignore_errors=True)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
