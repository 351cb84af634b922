"""docker-compose.yml and Dockerfile against the code they are about; and their commands, run by hand."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import yaml
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from temporalio.client import Client

from amends.cli.servers import migrate
from amends.database import conninfo
from amends.embedded import EmbeddedTemporal
from amends.embedded.binaries import find_postgres, find_temporal
from amends.embedded.temporal import DYNAMIC_CONFIG
from amends.settings import Settings
from amends.visibility import SEARCH_ATTRIBUTES
from app import app

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = [
    shlex.split(line, posix=False)
    for line in re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text()).splitlines()
    if line and not line.startswith("#")
]
PREFIX = "AMENDS_"
ONE_SHOTS = {"migrate", "logins", "temporal-schema", "temporal-namespace"}
WORKERS = ("worker", "builder")
OURS = ("migrate", *WORKERS)
SECONDS = 60.0
"""How long a process may take to do what it should."""


def environment(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


# docker-compose.yml


@pytest.mark.parametrize("service", OURS)
def test_every_setting_is_one_that_there_is_and_its_value_one_that_it_takes(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_here = {name: value for name, value in environment(service).items() if name.startswith(PREFIX)}
    assert set_here
    assert {name.removeprefix(PREFIX).lower() for name in set_here} <= Settings.model_fields.keys()
    for name, text in set_here.items():
        monkeypatch.setenv(name, re.sub(r"\$\{[^}]*\}", "said-elsewhere", text))
    Settings()


def test_no_other_service_gets_our_settings() -> None:
    theirs = {name for service in SERVICES.keys() - set(OURS) for name in environment(service)}
    assert [name for name in theirs if name.startswith(PREFIX)] == []


VERSION = {"deployment", "build_id"}
"""Without them a worker has no version, and does without one."""


OWNER = {"owner_url"}
"""Without it a worker leaves builds of read models to one that has it."""


def test_nobody_works_as_the_owner_but_who_migrates_and_who_builds() -> None:
    by_owner = {name for name in OURS if "//amends:" in environment(name).get("AMENDS_OWNER_URL", "")}
    assert by_owner == {"migrate", "builder"}
    assert all("//shop_worker:" in environment(name)["AMENDS_DATABASE_URL"] for name in OURS)


def test_every_setting_that_the_code_can_t_do_without_is_set() -> None:
    worker = _settings_used((ROOT / "amends/worker.py").read_text(), (ROOT / "amends/connect.py").read_text())
    cli = (ROOT / "amends/cli/servers.py").read_text()
    [function] = [
        node for node in ast.walk(ast.parse(cli)) if isinstance(node, ast.FunctionDef) and node.name == migrate.__name__
    ]
    needed = {"worker": worker, "migrate": _settings_used(ast.unparse(function))}
    for service, used in needed.items():
        without_default = {name for name in used if Settings.model_fields[name].default is None} - VERSION - OWNER
        assert without_default, "nothing was found in the code"
        assert {PREFIX + name.upper() for name in without_default} <= environment(service).keys()


def _settings_used(*sources: str) -> set[str]:
    return {
        node.attr
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "settings"
    } & Settings.model_fields.keys()


def test_what_a_service_waits_for_is_there_and_can_come_true() -> None:
    for name, service in SERVICES.items():
        for other, waits in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} waits for {other}"
            if waits["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], (
                    f"{name} waits for the health of {other}, which is not looked at"
                )
            else:
                assert waits["condition"] == "service_completed_successfully"
                assert other in ONE_SHOTS, f"{name} waits for the end of {other}, which does not end"


def test_servers_are_looked_after_and_one_shots_are_not_started_for_ever() -> None:
    for name, service in SERVICES.items():
        if name in ONE_SHOTS:
            assert service["restart"].startswith("on-failure:")
        else:
            assert service["restart"] == "unless-stopped"
            assert name in WORKERS or "healthcheck" in service


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_starts_after_schema_logins_and_namespace_and_has_time_to_drain(name: str) -> None:
    worker = SERVICES[name]
    assert worker["depends_on"].keys() == {"logins", "temporal-namespace"}
    assert SERVICES["logins"]["depends_on"].keys() == {"migrate"}
    grace = int(worker["stop_grace_period"].removesuffix("s"))
    assert grace > float(environment(name)["AMENDS_DRAIN_SECONDS"])


def test_images_are_pinned() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += [line[1] for line in DOCKERFILE if line[0] == "FROM"]
    for image in images:
        name, _, tag = image.partition(":")
        assert re.match(r"\d+\.\d+", tag), f"{name} is not pinned: {tag!r}"
    of_temporal = {
        image.partition(":")[2] for image in images if image.startswith(("temporalio/server", "temporalio/ad"))
    }
    assert len(of_temporal) == 1, "server and schema tools are of different versions"


def test_ports_are_on_loopback_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports), ports


def test_no_secret_has_a_value_or_a_default() -> None:
    given = {name: text for service in SERVICES for name, text in environment(service).items()}
    secret = {name: text for name, text in given.items() if re.search("PASSWORD|PWD|DATABASE_URL|SECRET", name)}
    assert len(secret) >= 4
    for name, text in secret.items():
        assert re.search(r"\$\{[A-Z_]+:\?[^}]+\}", text), f"{name} is not demanded from the environment"
    assert ":-" not in (ROOT / "docker-compose.yml").read_text()


def test_volumes_and_configs_are_declared_and_all_of_them_used() -> None:
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    configs = {config["source"] for service in SERVICES.values() for config in service.get("configs", [])}
    assert volumes == COMPOSE["volumes"].keys()
    assert configs == COMPOSE["configs"].keys()


def test_temporal_has_a_database_cluster_of_its_own() -> None:
    assert environment("temporal")["POSTGRES_SEEDS"] == "temporal-postgres"
    assert "@postgres:5432/" in environment("worker")["AMENDS_DATABASE_URL"]
    volumes = [SERVICES[name]["volumes"][0].partition(":")[0] for name in ("postgres", "temporal-postgres")]
    assert len(set(volumes)) == 2


def test_temporal_is_not_throttled_as_it_is_shipped() -> None:
    settings = yaml.safe_load(COMPOSE["configs"]["temporal-dynamic"]["content"])
    expected = {name: setting for name, setting in DYNAMIC_CONFIG.items() if name in settings}
    assert {name: entries[0]["value"] for name, entries in settings.items()} == expected
    assert "history.transferProcessorMaxPollRPS" in settings


def test_the_search_attributes_are_those_of_the_engine_and_the_app() -> None:
    [script] = SERVICES["temporal-namespace"]["command"]
    [names] = re.findall(r'attributes="([^"]+)"', script)
    assert set(names.split()) == {*SEARCH_ATTRIBUTES, *app.search_attributes}
    assert set({**SEARCH_ATTRIBUTES, **app.search_attributes}.values()) == {"Keyword"}


# Dockerfile


def test_the_image_has_every_package_that_the_app_imports() -> None:
    needed, found = {"app", "worker"}, set[str]()
    while needed > found:
        for name in needed - found:
            found.add(name)
            needed |= {imported for imported in _imports(name) if _ours(imported)}
    assert {"amends", "domain", "workflows", "activities", "read_models"} <= needed
    copied = {source.rstrip("/") for line in DOCKERFILE if line[0] == "COPY" for source in line[1:-1]}
    assert {_path(name) for name in needed} <= copied
    kept = {line.removeprefix("!").rstrip("/") for line in _ignored() if line.startswith("!")}
    assert {source for source in copied if not source.startswith(("--", "/"))} <= kept


def _imports(name: str) -> set[str]:
    path = ROOT / _path(name)
    files = path.rglob("*.py") if path.is_dir() else [path]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return {each.partition(".")[0] for each in plain} | {
        node.module.partition(".")[0] for node in nodes if isinstance(node, ast.ImportFrom) and node.module
    }


def _ours(name: str) -> bool:
    return (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()


def _path(name: str) -> str:
    return name if (ROOT / name).is_dir() else f"{name}.py"


def _ignored() -> list[str]:
    return [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]


def test_the_build_sends_nothing_but_what_is_named() -> None:
    assert _ignored()[0] == "*"
    assert "!.env" not in _ignored()
    assert "**/.env" in _ignored()


def test_the_image_runs_the_worker_as_nobody_in_particular() -> None:
    last = {line[0]: line for line in DOCKERFILE}
    assert int(last["USER"][1]) > 0
    assert DOCKERFILE.index(last["USER"]) > DOCKERFILE.index(last["FROM"]), "USER stands in an earlier stage"
    assert json.loads(" ".join(last["CMD"][1:])) == ["python", "worker.py"]
    for service in OURS:
        assert "user" not in SERVICES[service]
        assert SERVICES[service]["cap_drop"] == ["ALL"]
        assert SERVICES[service]["read_only"] is True


def test_the_image_installs_the_pinned_versions_without_extras() -> None:
    environment_ = [line for line in DOCKERFILE if line[0] == "ENV"]
    assert any("PIP_CONSTRAINT=/build/requirements.txt" in line for line in environment_)
    [install] = [line for line in DOCKERFILE if line[0] == "RUN" and "install" in line]
    assert install[1:] == ["/venv/bin/pip", "install", "."]


# Its commands, run by hand


def shell_command(service: str) -> list[str]:
    """What the container would run, `$$` read as Compose reads it."""
    parts = [*SERVICES[service].get("entrypoint", []), *SERVICES[service]["command"]]
    return [part.replace("$$", "$") for part in parts]


def by_hand(service: str, **replaced: str) -> dict[str, str]:
    """The service's environment here, with these values replaced; nothing of ours comes from outside."""
    outside = {name: text for name, text in os.environ.items() if not name.startswith((PREFIX, "TEMPORAL_"))}
    return {**outside, **environment(service), **replaced}


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    name = f"deploy_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    yield make_conninfo(postgres_url, dbname=name)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
        connection.execute("drop role if exists shop_worker, shop_client")


def logins(owner_url: str) -> tuple[str, str]:
    """Addresses by the logins that the one-shot service has made, twice: a worker's and a client's."""
    of = conninfo_to_dict(owner_url)
    passwords = {"WORKER_PASSWORD": "it's \\ odd", "CLIENT_PASSWORD": "$other"}
    reached = {"PGHOST": of["host"], "PGPORT": of["port"], "PGUSER": of["user"], "PGPASSWORD": of["password"]}
    reached |= {"PGDATABASE": of["dbname"], "PATH": f"{find_postgres()}{os.pathsep}{os.environ['PATH']}"}
    variables = by_hand("logins", **passwords, **{name: str(text) for name, text in reached.items()})
    for _ in range(2):
        subprocess.run(shell_command("logins"), env=variables, check=True, timeout=SECONDS, capture_output=True)
    worker = make_conninfo(owner_url, user="shop_worker", password=passwords["WORKER_PASSWORD"])
    return worker, make_conninfo(owner_url, user="shop_client", password=passwords["CLIENT_PASSWORD"])


@pytest.fixture
def namespace(temporal: EmbeddedTemporal, tmp_path: Path) -> str:
    """A namespace that the one-shot service has made, twice."""
    name = f"deploy-{uuid4().hex}"
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "temporal").symlink_to(find_temporal())
    changed = {"TEMPORAL_ADDRESS": temporal.address, "TEMPORAL_NAMESPACE": name, "HOME": str(tmp_path)}
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    for _ in range(2):
        subprocess.run(
            shell_command("temporal-namespace"),
            env=by_hand("temporal-namespace", PATH=path, **changed),
            check=True,
            timeout=SECONDS,
            capture_output=True,
        )
    return name


@asynccontextmanager
async def process(command: list[str], variables: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    running = await asyncio.create_subprocess_exec(
        *command, env=variables, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, limit=1 << 20
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield running
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()


async def test_given_empty_servers_when_namespace_migrate_and_worker_run_then_it_works_until_sigterm(
    empty_database: str, temporal: EmbeddedTemporal, namespace: str
) -> None:
    # given: the namespace is there, and migrate has run, twice
    amends = str(Path(sys.executable).with_name("amends"))
    assert shell_command("migrate") == ["amends", "migrate"]
    for _ in range(2):
        owner = {"AMENDS_OWNER_URL": empty_database, "AMENDS_DATABASE_URL": empty_database}
        async with process([amends, "migrate"], by_hand("migrate", **owner)) as migrating:
            _, said = await migrating.communicate()
            assert migrating.returncode == 0, said.decode()
    # and: so has what makes the logins
    worker_url, client_url = logins(empty_database)
    with psycopg.connect(conninfo(client_url, "reader")) as connection:
        assert connection.execute("select count(*) from views.order_history").fetchone() == (0,)
    with pytest.raises(psycopg.OperationalError, match="permission denied to set role"):
        psycopg.connect(conninfo(client_url, "writer"))
    # when
    [*_, cmd] = [line for line in DOCKERFILE if line[0] == "CMD"]
    [_, *arguments] = json.loads(" ".join(cmd[1:]))
    changed = {
        "AMENDS_DATABASE_URL": worker_url,
        "AMENDS_TEMPORAL_ADDRESS": temporal.address,
        "AMENDS_TEMPORAL_NAMESPACE": namespace,
    }
    async with process([sys.executable, *arguments], by_hand("worker", **changed)) as worker:
        events = _events(worker)
        said_at_start = [event async for event in _up_to(events, "worker_started")]
        assert said_at_start[-1]["namespace"] == namespace
        assert said_at_start[-1]["task_queue"] == environment("worker")["AMENDS_TASK_QUEUE"]
        client = await Client.connect(temporal.address, namespace=namespace)
        assert [run.id async for run in client.list_workflows("ExecutionStatus = 'Running'")]
        worker.send_signal(signal.SIGTERM)
        # then
        said_at_end = [event["event"] async for event in _up_to(events, "worker_stopped")]
        assert said_at_end[0] == "worker_draining"
        await worker.communicate()
    assert worker.returncode == 0


async def _events(running: asyncio.subprocess.Process) -> AsyncIterator[dict[str, Any]]:
    assert running.stderr is not None
    said = []
    while line := await running.stderr.readline():
        said.append(line.decode())
        if line.startswith(b"{"):
            yield json.loads(line)
    pytest.fail("the worker ended:\n" + "".join(said))


async def _up_to(events: AsyncIterator[dict[str, Any]], last: str) -> AsyncIterator[dict[str, Any]]:
    async for event in events:
        yield event
        if event["event"] == last:
            return
