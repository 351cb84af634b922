"""Forgetting a customer: nothing personal is left to read, in any copy, and a certificate says so."""

from __future__ import annotations

from temporalio import workflow

from amends import Call, Key, Position, Process, Saga, Value
from amends.erasure import PATIENCE, Erased, Erasure, Scrubbing
from amends.records import START
from domain.customer import Customer, ForgetCustomer, RecordErasure

__all__ = ["ErasureCertificate", "ErasureRequest", "Forget"]


class ErasureRequest(Value):
    """Who wants to be forgotten.

    Args:
        customer_id: the customer.
        reason: why, for the record; nothing personal.
    """

    customer_id: Key
    reason: str


class ErasureCertificate(Value):
    """What is known of an erasure, as `views.erasures` keeps it.

    Args:
        customer_id: who was forgotten.
        erased: when the key was destroyed, and what that made unreadable.
        read_models: builds that were seen to hold nothing of them any more.
        position: where the record of it stands in the feed.
    """

    customer_id: Key
    erased: Erased
    read_models: tuple[str, ...]
    position: Position = START


@workflow.defn
class Forget(Process[ErasureRequest, ErasureCertificate]):
    """Take the customer off the books, destroy the key, see that no view shows anything, put it on record."""

    @workflow.run
    async def run(self, request: ErasureRequest) -> ErasureCertificate:
        """See an erasure through. There is no way back once the customer is off the books.

        Raises:
            UnknownCustomer: nobody of that id has ever registered.
        """
        async with self.saga as saga:
            forgotten = await self._take_off(saga, request)
            erased = await self._destroy(saga, request)
            builds = await self._scrub(saga, request, forgotten)
            await self._record(saga, request, erased, builds)
        return ErasureCertificate(
            customer_id=request.customer_id, erased=erased, read_models=builds, position=saga.position
        )

    async def _take_off(self, saga: Saga, request: ErasureRequest) -> Position:
        forget = ForgetCustomer(customer_id=request.customer_id, reason=request.reason)
        receipt = await saga.do("take the customer off the books", forget, pivot=True)
        return receipt.position

    async def _destroy(self, saga: Saga, request: ErasureRequest) -> Erased:
        subject = Customer.stream(request.customer_id)
        return await saga.do("destroy the key", Call(Erasure.destroy_key, subject))

    async def _scrub(self, saga: Saga, request: ErasureRequest, forgotten: Position) -> tuple[str, ...]:
        scrubbing = Scrubbing(subject=Customer.stream(request.customer_id), position=forgotten)
        scrubbed = await saga.do("see the read models scrubbed", Call(Erasure.see_scrubbed, scrubbing, PATIENCE))
        return scrubbed.builds

    async def _record(self, saga: Saga, request: ErasureRequest, erased: Erased, builds: tuple[str, ...]) -> None:
        record = RecordErasure(
            customer_id=request.customer_id,
            key_destroyed_at=erased.at,
            events_sealed=erased.sealed,
            events_in_clear=erased.in_clear,
            read_models=builds,
        )
        await saga.do("record the erasure", record)
