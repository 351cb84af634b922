"""The engine's half of a client: commands, sagas, queries; an application puts its own verbs on top.

It stays light to import: what connecting needs, SQLAlchemy and psycopg among it, is imported when somebody connects.
Longer than other modules, for it is one class: what a client can do is found in one place.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError
from temporalio.client import Client as TemporalClient
from temporalio.client import (
    WithStartWorkflowOperation,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError

from amends.aggregate import stream_of
from amends.connect import connect
from amends.dispatch import CommandRequest, ExecuteCommand
from amends.errors import CommandIdReused, InvalidInput, NoAnswer, SagaError, Stale, StartupError, Unavailable
from amends.messages import Command, Key
from amends.outages import temporal_away
from amends.outcomes import refusal_of
from amends.process import Process
from amends.received import invalid_in
from amends.records import START, Position, Receipt, Refusal
from amends.sealing import has_personal
from amends.steps import refusal_in
from amends.values import bad_texts, posing_texts
from amends.visibility import MEMO, SAGA_STATUS, SagaMemo

if TYPE_CHECKING:
    from amends.client_keys import ClientKeys
    from amends.freshness import Freshness
    from amends.query import Query
    from amends.reader import Reader
    from amends.settings import Settings
    from amends.sources import Sources

__all__ = ["Client", "checked_key", "checked_request_id"]

T = TypeVar("T")
Request = TypeVar("Request", bound=BaseModel)
Result = TypeVar("Result")

_KEY = TypeAdapter[str](Key)

MAX_REQUEST = 1_500_000
"""Longest request, in bytes of its JSON: Temporal takes 2 MB, and what it goes in takes some of that."""

MAX_ACTOR = 200
"""Longest name of somebody in whose name things are done, in characters."""

READER_CONNECTIONS = 4
"""Most queries of one client at a time."""


class Client:
    """Sends commands, starts sagas, asks the views. Use it as an async context manager, or close it.

    Args:
        temporal: connected to the server.
        reader: the read side.
        settings: task queue, and how sub-processes are mounted.
        actor: in whose name it acts, unless a call says otherwise.
        keys: what seals personal data.
    """

    def __init__(
        self, temporal: TemporalClient, reader: Reader, settings: Settings, actor: str, keys: ClientKeys
    ) -> None:
        self.temporal = temporal
        self.reader = reader
        self.settings = settings
        self.actor = actor
        self.keys = keys
        self.seen: Position = START

    @classmethod
    async def connect(
        cls, settings: Settings | None = None, *, actor: str = "client", sources: Sources | None = None
    ) -> Self:
        """Connect to Temporal and, for queries, to PostgreSQL.

        Args:
            settings: from the environment when not given.
            actor: in whose name it acts.
            sources: the application's projections and the views they keep.

        Raises:
            ServerFailed: no Temporal server answers.
            StartupError: no database is set.
        """
        from amends.client_keys import ClientKeys
        from amends.reader import Reader
        from amends.settings import Settings

        settings = settings or Settings()
        if settings.database_url is None:
            raise StartupError("A client needs AMENDS_DATABASE_URL for its queries; `amends up` prints it")
        temporal = await connect(settings)
        reader = Reader(
            settings.database_url.get_secret_value(),
            READER_CONNECTIONS,
            sources,
            cache_seconds=settings.cache_seconds,
            cache_entries=settings.cache_entries,
        )
        return cls(temporal, reader, settings, actor, ClientKeys(settings.database_url.get_secret_value()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the connections back."""
        await self.keys.close()
        await self.reader.close()

    async def execute(self, command: Command, *, request_id: str | None = None, actor: str | None = None) -> Receipt:
        """Have a command done that needs no saga, durably and once.

        Args:
            command: what is wanted.
            request_id: names the intent; the same one again gets the first receipt. A new one when not given.
            actor: in whose name.

        Returns:
            the receipt, with the position from which on readers can see it.

        Raises:
            Refused: a rule said no; its own class, with the facts.
            CommandIdReused: the request id stands for another command.
            InvalidInput: the request id is none, or a text can't be stored; names the field.
            Forgotten: there are personal data in it, of who is forgotten.
            NoAnswer: no worker has answered in time; what was asked for may still be done.
            Unavailable: Temporal does not answer; what was asked for may have been done, or be done later.
        """
        request_id = checked_request_id(request_id)
        command = await self._ready(command, stream_of(command) if has_personal(command) else "")
        request = CommandRequest(name=command.message_name, data=command.model_dump(mode="json"))
        id, fingerprint = f"command-{request_id}", fingerprint_of(request)
        handle: WorkflowHandle[Any, Receipt] = self.temporal.get_workflow_handle(id, result_type=Receipt)
        wanted = f"{command.message_name}: it may be done all the same, so ask again with the request id {request_id!r}"
        try:
            await self._send(handle, request, fingerprint, actor)
            receipt = await asyncio.wait_for(handle.result(), self.settings.answer_seconds)
        except TimeoutError:
            raise self._no_answer(id) from None
        except WorkflowFailureError as error:
            if (wrong := invalid_in(error.cause)) is not None:  # a worker of another version knows another command
                raise wrong from error
            raise SagaError(f"{command.message_name} was not done: {error.cause}") from error
        except RPCError as error:
            raise self.away(error, wanted) from error
        self.saw(receipt.position)
        return receipt.raise_refusal()

    async def _send(
        self, handle: WorkflowHandle[Any, Receipt], request: CommandRequest, fingerprint: str, actor: str | None
    ) -> None:
        """Start the workflow that does a command, unless the very same request has started it already."""
        try:
            await self.temporal.start_workflow(
                ExecuteCommand.run,
                request,
                id=handle.id,
                task_queue=self.settings.task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                memo={MEMO: self._memo(actor, {}, fingerprint)},
                static_summary=request.name,
            )
        except WorkflowAlreadyStartedError:  # then its receipt is what is wanted, if it was the same request
            memo = await (await handle.describe()).memo_value(MEMO, default=SagaMemo(), type_hint=SagaMemo)
            if memo.fingerprint != fingerprint:
                raise CommandIdReused(
                    f"The request id {handle.id.removeprefix('command-')!r} was used for another request; a new intent "
                    "needs a new one"
                ) from None

    async def start(
        self,
        process: type[Process[Request, Result]],
        request: Request,
        *,
        id: str,
        accepted: Any,
        answered: Any,
        labels: Mapping[str, str],
        attributes: Mapping[str, str],
        summary: str,
        actor: str | None = None,
    ) -> Any:
        """Start a saga and wait for its first answer, in one call; again with the same id, get the first answer again.

        Args:
            process: the saga's workflow class.
            request: what its `run` takes.
            id: the workflow id.
            accepted: the update method that gives the answer; takes the request's fingerprint.
            answered: the query method that gives the same answer, or the refusal, when all is over: a server that dies
                may start the saga and lose the update.
            labels: business keys for its log lines.
            attributes: business keys to find it by in Temporal, as keywords.
            summary: what lists show of it.
            actor: in whose name.

        Raises:
            Refused: the saga refused, and undid what it had done.
            CommandIdReused: the id stands for another request.
            InvalidInput: a text of the request can't be stored; names the field.
            NoAnswer: no worker has answered in time; the saga may still run.
            SagaError: it failed before it could answer.
            Unavailable: Temporal does not answer; the saga may have started.
        """
        request = await self._ready(request, id)
        fingerprint = fingerprint_of(request)
        starting = WithStartWorkflowOperation(
            process.run,
            request,
            id=id,
            task_queue=self.settings.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            memo={MEMO: self._memo(actor, labels, fingerprint)},
            search_attributes=shown(attributes),
            static_summary=summary,
        )
        try:
            return await self.temporal.execute_update_with_start_workflow(
                accepted,
                fingerprint,
                start_workflow_operation=starting,
                id=f"accepted-{fingerprint[:16]}",
                rpc_timeout=timedelta(seconds=self.settings.answer_seconds),
            )
        except WorkflowUpdateRPCTimeoutOrCancelledError as error:
            await _heard(starting)
            raise self._no_answer(id) from error
        except WorkflowUpdateFailedError as error:
            if isinstance(error.cause, ApplicationError) and error.cause.type == CommandIdReused.__name__:
                raise CommandIdReused(error.cause.message) from error
            refusal = refusal_in(error.cause)
            if refusal is None:
                raise SagaError(f"{id} was not accepted: {error.cause}") from error
            raise refusal.error() from error
        except WorkflowAlreadyStartedError:
            await _heard(starting)
            return await self._answered(id, fingerprint, answered)
        except RPCError as error:
            await _heard(starting)
            again = "it may run all the same, so ask again with the request id that is in it"
            raise self.away(error, f"{id}: {again}") from error

    async def _ready(self, sent: Request, subject: str) -> Request:
        """A request as it may leave us: looked through, and sealed for whom its personal data are of."""
        if problems := bad_texts(sent) | posing_texts(sent):
            raise InvalidInput(problems)
        return await self.keys.seal(sent, subject) if has_personal(sent) else sent

    async def _answered(self, id: str, fingerprint: str, answered: Any) -> Any:
        """The first answer of a saga that has ended, to the very request that started it; errors as `start`."""
        handle = self.temporal.get_workflow_handle(id)
        try:
            memo = await (await handle.describe()).memo_value(MEMO, default=SagaMemo(), type_hint=SagaMemo)
            if memo.fingerprint != fingerprint:
                raise CommandIdReused(
                    f"{id} has ended, and was started by another request; ask for its result, or take a new id"
                )
            async with asyncio.timeout(self.settings.answer_seconds):
                answer = await handle.query(answered)
        except TimeoutError:
            raise self._no_answer(id) from None
        except WorkflowQueryFailedError as error:
            raise SagaError(f"{id} has ended, and says nothing of itself: {error}; ask for its result") from error
        except RPCError as error:
            raise self.away(error) from error
        if isinstance(answer, Refusal):
            raise answer.error()
        if answer is None:
            raise SagaError(f"{id} has ended before it could be accepted; ask for its result")
        return answer

    async def run(
        self,
        process: type[Process[Request, Result]],
        request: Request,
        *,
        id: str,
        labels: Mapping[str, str],
        attributes: Mapping[str, str],
        summary: str,
        actor: str | None = None,
    ) -> Result:
        """Start a saga, or find it running under the same id, and wait for its end.

        One that has ended is started anew: its steps bear the same ids, so what the log knows is not done again.

        Args:
            process: the saga's workflow class.
            request: what its `run` takes.
            id: the workflow id.
            labels: business keys for its log lines.
            attributes: business keys to find it by in Temporal, as keywords.
            summary: what lists show of it.
            actor: in whose name.

        Raises:
            Refused: the saga refused, and undid what it had done.
            InvalidInput: a text of the request can't be stored; names the field.
            NoAnswer: it has not come to its end in time; it goes on.
            SagaError: it failed.
            Unavailable: Temporal does not answer; the saga may have started.
        """
        request = await self._ready(request, id)
        started: Any = process.run  # which of the handle's overloads it fits, mypy says one time and not another
        handle: WorkflowHandle[Any, Result] = self.temporal.get_workflow_handle_for(started, id)
        try:
            with suppress(WorkflowAlreadyStartedError):
                await self.temporal.start_workflow(
                    process.run,
                    request,
                    id=id,
                    task_queue=self.settings.task_queue,
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    memo={MEMO: self._memo(actor, labels, fingerprint_of(request))},
                    search_attributes=shown(attributes),
                    static_summary=summary,
                )
            result: Result = await asyncio.wait_for(handle.result(), self.settings.answer_seconds)
        except TimeoutError:
            raise self._no_answer(id) from None
        except WorkflowFailureError as error:
            if (refusal := refusal_of(error.cause)) is not None:
                raise refusal.error() from error
            raise SagaError(f"{id} did not come to its end: {error.cause}") from error
        except RPCError as error:
            raise self.away(error, f"{id}: it may run all the same, so ask again") from error
        return result

    async def query(self, query: Query[T]) -> T:
        """Ask the views, as they are now; see `at_least` for how fresh they are.

        Raises:
            Unavailable: the database does not answer.
        """
        return await self.reader.query(query)

    async def at_least(
        self,
        position: Position,
        projections: str | Collection[str] = (),
        timeout: float = 5.0,
        key: str | None = None,
    ) -> Freshness:
        """Wait until read models show everything up to a position.

        Args:
            position: from a receipt, an acceptance or an outcome.
            projections: names of views or projections; all of the application's when none are given.
            timeout: seconds.
            key: stale too when events of this key are parked; see `Checkpoints.at_least`.
        """
        return await self.reader.at_least(position, projections, timeout, key)

    async def require(
        self, position: Position, timeout: float, projections: str | Collection[str] = (), key: str | None = None
    ) -> None:
        """As `at_least`, for answers that would be wrong when they are stale.

        Raises:
            Stale: the read models have not caught up in time, or can't.
        """
        freshness = await self.at_least(position, projections, timeout, key)
        if not freshness.fresh:
            raise Stale(
                f"Read model {freshness}; {position} was wanted within {timeout:g} s. See whether a worker runs, and "
                "views.projection_status"
            )

    async def query_own(self, query: Query[T], timeout: float) -> T:
        """Ask the views, no staler than what this client has done itself.

        Args:
            query: waits for the projections that it reads, no others.
            timeout: seconds to wait for them.

        Raises:
            Stale: they have not caught up with that in time; `query` takes them as they are.
        """
        if self.seen > START:
            await self.require(self.seen, timeout, self.reader.projections_of(query) or ())
        return await self.query(query)

    def saw(self, position: Position) -> None:
        """Remember a position that this client's own reads must not fall behind."""
        self.seen = max(self.seen, position)

    def away(self, error: RPCError, wanted: str | None = None) -> Unavailable:
        """Temporal does not answer; see `outages.temporal_away`.

        Args:
            error: as it came.
            wanted: what was to be done, and how it is asked for again; None when it was a mere question.
        """
        return temporal_away(error, self.temporal.service_client.config.target_host, wanted)

    def _no_answer(self, id: str) -> NoAnswer:
        seconds, queue = self.settings.answer_seconds, self.settings.task_queue
        return NoAnswer(
            f"No answer about {id} within {seconds:g} s. It is not lost: ask again with the same request id, and see "
            f"whether a worker polls the task queue {queue!r}"
        )

    def _memo(self, actor: str | None, labels: Mapping[str, str], fingerprint: str) -> SagaMemo:
        trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        mount, actor = self.settings.mount, actor or self.actor
        if not isinstance(actor, str) or len(actor) > MAX_ACTOR or bad_texts(actor):
            raise InvalidInput({"actor": f"must be a text of at most {MAX_ACTOR} characters, without NUL"})
        return SagaMemo(actor=actor, trace=trace, labels=dict(labels), mount=mount, fingerprint=fingerprint)


async def _heard(starting: WithStartWorkflowOperation[Any, Any]) -> None:
    """Take the error that an operation keeps for who wants its handle, lest it be logged as one that nobody heard."""
    with suppress(Exception):
        await starting.workflow_handle()


def shown(attributes: Mapping[str, str]) -> TypedSearchAttributes:
    """What a saga is found by from its start: its business keys, as keywords, and where it stands."""
    keys = [SearchAttributePair(SearchAttributeKey.for_keyword(k), v) for k, v in attributes.items()]
    return TypedSearchAttributes([*keys, SearchAttributePair(SAGA_STATUS, "Running")])


def fingerprint_of(request: BaseModel) -> str:
    """Tells a request from any other; kept with its workflow, so that one id is not used for two.

    Raises:
        InvalidInput: Temporal would not take it.
    """
    told = request.model_dump_json(exclude_defaults=True).encode()
    if len(told) > MAX_REQUEST:
        raise InvalidInput({"request": f"is of {len(told):,} bytes, and Temporal takes {MAX_REQUEST:,} at most"})
    return sha256(told).hexdigest()


def checked_request_id(request_id: str | None) -> str:
    """A request id as it was given, or a new one; errors as `checked_key`."""
    return uuid4().hex if request_id is None else checked_key(request_id, "request_id")


def checked_key(key: str, field: str) -> str:
    """What names a thing, as it was given.

    Args:
        key: that.
        field: how the caller calls it.

    Raises:
        InvalidInput: nothing can have that for a name.
    """
    try:
        return _KEY.validate_python(key)
    except ValidationError as error:
        raise InvalidInput({field: error.errors()[0]["msg"]}) from None
