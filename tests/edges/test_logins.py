"""An order by logins of least privilege, and what is left to whoever owns the schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowHandle

from amends.app import App
from amends.connect import connect
from amends.errors import ServerFailed
from amends.rebuild_request import RebuildRequest, Rebuilt
from amends.rebuild_workflow import start_rebuild
from amends.settings import Settings
from amends.worker import open_worker
from app import app
from client import Shop
from tests.cli.typing_in import amends
from tests.conftest import RunWorker
from tests.edges.logins import Logins, production, user_of
from tests.sagas.given import rows, until
from tests.sagas.shopping import Market, card

WHO = ("--actor", "Grace", "--reason", "to see")

SESSIONS = """
select distinct usename::text, application_name from pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'amends-%%'
"""


@pytest.fixture(scope="module")
async def logins(postgres_url: str, template: str) -> AsyncIterator[Logins]:
    async with production(postgres_url, app) as logins:
        yield logins


async def test_given_logins_of_least_privilege_when_an_order_is_placed_then_it_completes_and_nobody_was_the_owner(
    logins: Logins, settings: Settings, run_worker: RunWorker
) -> None:
    # given: the owner has migrated, and is needed no more
    worker, client = logins.of(settings, "worker"), logins.of(settings, "client")
    async with run_worker(app, worker), await Shop.connect(client) as shop:
        market = Market(shop, logins.owner)
        # when: one completes, one is undone, one is taken back
        done = await market.place(card())
        declined = await market.place(card("tok_declined"))
        outcomes = [(await each.result()).status for each in (done, declined)]
        refund = await shop.refund_order(done.order_id)
        taken_back = await refund.result()
        # then
        assert outcomes == ["completed", "cancelled"]
        assert taken_back.status == "refunded"
        assert await market.timeline(done.order_id)
        sessions = await rows(logins.owner, SESSIONS)
    assert {user for user, _ in sessions} == {user_of(logins.worker), user_of(logins.client)}
    assert {name for user, name in sessions if user == user_of(logins.worker)} == {"amends-writer", "amends-projector"}
    assert {name for user, name in sessions if user == user_of(logins.client)} == {"amends-client", "amends-reader"}


async def test_given_no_worker_that_owns_the_schema_when_a_read_model_is_rebuilt_then_it_waits_for_one_and_says_so(
    logins: Logins, settings: Settings, run_worker: RunWorker
) -> None:
    client = await connect(settings)
    request = RebuildRequest(name="order_history", version=_version(app, "order_history"), actor="Grace", reason="test")
    async with run_worker(app, logins.of(settings, "worker")):
        # when
        handle = await start_rebuild(client, request, settings.task_queue)

        async def failing() -> str:
            pending = (await handle.describe()).raw_description.pending_activities
            return pending[0].last_failure.message if pending else ""

        told = await until("it says why it waits", failing)
        # then
        assert "does not own the schema" in told
        assert "AMENDS_OWNER_URL" in told
    # when: one comes that has the owner's login besides
    async with run_worker(app, logins.of(settings, "worker", owner=True)):
        done: Rebuilt = await asyncio.wait_for(_result(client, handle.id), 60)
    assert done.outcome == "swapped"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("migrate",), "ServerFailed: The schema can't be brought up to date: permission denied"),
        (("views", "rollback", "order_history", *WHO), "StartupError: PostgreSQL does not let this login do that"),
        (("views", "drop-old", "order_history", *WHO), "StartupError: PostgreSQL does not let this login do that"),
        (("export",), "StartupError: PostgreSQL does not let this login do that"),
    ],
)
async def test_given_a_login_that_does_not_own_the_schema_when_it_would_change_it_then_it_is_told_which_to_set(
    arguments: tuple[str, ...], told: str, logins: Logins, settings: Settings
) -> None:
    ended = await amends(*arguments, settings=logins.of(settings, "client"))
    assert isinstance(ended.exception, SystemExit), repr(ended.exception)
    assert " ".join(ended.stderr.split()).startswith(told), ended.stderr
    assert "AMENDS_OWNER_URL" in ended.stderr


async def test_given_the_owner_s_login_besides_when_the_schema_is_migrated_then_that_one_is_taken(
    logins: Logins, settings: Settings
) -> None:
    ended = await amends("migrate", settings=logins.of(settings, "client"), AMENDS_OWNER_URL=logins.owner)
    assert (ended.exit_code, ended.stderr) == (0, "The schema is up to date.\n")


async def test_given_a_client_s_login_when_a_worker_starts_with_it_then_it_is_told_that_it_may_not_act_as_the_writer(
    logins: Logins, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("amends.database.CONNECT_SECONDS", 1.0)
    with pytest.raises(ServerFailed, match=r'as amends_writer .* permission denied to set role "amends_writer"'):
        async with open_worker(app, logins.of(settings, "client"), await connect(settings)):
            pass


def _version(app: App, name: str) -> int:
    return next(each.version for each in app.projections if each.name == name)


async def _result(client: Client, id: str) -> Rebuilt:
    handle: WorkflowHandle[object, Rebuilt] = client.get_workflow_handle(id, result_type=Rebuilt)
    return await handle.result()
