"""Customers: the only place where personal data live."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Self, assert_never

from pydantic import AfterValidator, AwareDatetime, Field

from amends import Aggregate, Claim, Command, Decision, Event, Free, Key, Personal, Refused, upcast
from domain.values import PastMoment, ShortText, shows_all

__all__ = [
    "ChangeEmail",
    "Customer",
    "CustomerCommand",
    "CustomerErased",
    "CustomerEvent",
    "CustomerExists",
    "CustomerForgotten",
    "CustomerRegistered",
    "Email",
    "EmailChanged",
    "EmailTaken",
    "ErasureRecorded",
    "ForgetCustomer",
    "LoginRecorded",
    "NotForgotten",
    "RecordErasure",
    "RecordLogin",
    "RegisterCustomer",
    "UnknownCustomer",
]

MAX_EMAIL = 254
"""Longest e-mail address that mail can be sent to, in characters (RFC 5321)."""

_EMAIL = re.compile(r"[^\s@]+@[^\s@.]+(\.[^\s@.]+)+")


def _address(text: str) -> str:
    """One spelling for each address, so that it can be compared and claimed."""
    address = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.strip()).lower()).strip()
    if len(address) > MAX_EMAIL:
        raise ValueError(f"must not be longer than {MAX_EMAIL} characters")
    if not (shows_all(address) and _EMAIL.fullmatch(address)):
        raise ValueError("must look like name@example.org")
    return address


Email = Annotated[str, Field(max_length=1000), AfterValidator(_address)]
"""An e-mail address in its one spelling: trimmed, lower case, compatible characters unified."""


class CustomerExists(Refused):
    """There is a customer with this id already"""


class UnknownCustomer(Refused):
    """There is no such customer"""


class CustomerErased(Refused):
    """The customer was forgotten, and the id can't be used again"""


class NotForgotten(Refused):
    """The customer is on the books, so no erasure can be recorded"""


class EmailTaken(Refused):
    """The e-mail address belongs to another customer"""


class RegisterCustomer(Command, name="customer.register"):
    """Take a customer on, under an e-mail address nobody else has.

    Args:
        customer_id: what the customer is known by, for ever; never a name or an address.
        name: what the customer is called.
        email: where mail goes.
        member_since: when the customer joined, where that was before now, in another system.
    """

    customer_id: Key
    name: Personal[ShortText]
    email: Personal[Email]
    member_since: PastMoment | None = None


class ChangeEmail(Command, name="customer.change_email"):
    """Send mail to another address from now on; the old one is free for others.

    Args:
        customer_id: which customer.
        email: where mail goes now.
    """

    customer_id: Key
    email: Personal[Email]


class RecordLogin(Command, name="customer.record_login"):
    """Note that a customer has logged in.

    Args:
        customer_id: which customer.
        at: when, with its time zone.
    """

    customer_id: Key
    at: AwareDatetime


class ForgetCustomer(Command, name="customer.forget"):
    """Take a customer off the books: orders stay, who they were does not.

    Args:
        customer_id: which customer.
        reason: why, for the record; nothing personal.
    """

    customer_id: Key
    reason: ShortText


class RecordErasure(Command, name="customer.record_erasure"):
    """Put on record what was done to forget a customer.

    Args:
        customer_id: which customer.
        key_destroyed_at: when the key of the personal data was destroyed.
        events_sealed: events whose personal data can't be read any more.
        events_in_clear: events from before personal data were sealed, whose can be read for ever.
        read_models: builds that were seen to hold nothing of them.
    """

    customer_id: Key
    key_destroyed_at: AwareDatetime
    events_sealed: int = Field(ge=0)
    events_in_clear: int = Field(ge=0)
    read_models: tuple[str, ...]


class CustomerRegistered(Event, name="customer.registered", version=2):
    """Somebody has become a customer.

    Args:
        customer_id: which customer.
        name: what the customer is called.
        email: where mail goes.
        member_since: when the customer joined, where that was earlier, in another system.
    """

    customer_id: Key
    name: Personal[str]
    email: Personal[str]
    member_since: datetime | None = None

    @upcast(1)
    @staticmethod
    def _joined_here(data: dict[str, Any]) -> dict[str, Any]:
        return data | {"member_since": None}


class EmailChanged(Event, name="customer.email_changed"):
    """A customer's mail goes elsewhere.

    Args:
        customer_id: which customer.
        email: where mail goes now.
    """

    customer_id: Key
    email: Personal[str]


class LoginRecorded(Event, name="customer.login_recorded"):
    """A customer has logged in.

    Args:
        customer_id: which customer.
        at: when, with its time zone.
    """

    customer_id: Key
    at: AwareDatetime


class CustomerForgotten(Event, name="customer.forgotten"):
    """A customer wants to be forgotten: nothing is to be shown of them any more.

    Args:
        customer_id: which customer.
        reason: why.
    """

    customer_id: Key
    reason: str


class ErasureRecorded(Event, name="customer.erasure_recorded"):
    """Nothing of a customer can be read any more; for what it says see the command.

    Args:
        customer_id: which customer.
        key_destroyed_at: when the key of the personal data was destroyed.
        events_sealed: events whose personal data can't be read any more.
        events_in_clear: events whose can be.
        read_models: builds that were seen to hold nothing of them.
    """

    customer_id: Key
    key_destroyed_at: AwareDatetime
    events_sealed: int
    events_in_clear: int
    read_models: tuple[str, ...]


CustomerCommand = RegisterCustomer | ChangeEmail | RecordLogin | ForgetCustomer | RecordErasure
CustomerEvent = CustomerRegistered | EmailChanged | LoginRecorded | CustomerForgotten | ErasureRecorded


class Customer(Aggregate[CustomerCommand, CustomerEvent], category="customer", key="customer_id", snapshot_version=2):
    """A customer: no two share an e-mail address, and the last login only moves forward.

    Args:
        email: where mail goes; none while nobody has registered.
        last_login: the latest one, if any.
        forgotten: whether the customer is off the books.
        erased: whether that nothing can be read any more is on record.
    """

    email: Personal[str] | None = Field(None, repr=False)
    last_login: datetime | None = None
    forgotten: bool = False
    erased: bool = False

    def decide(self, command: CustomerCommand) -> Decision:
        """What a customer may do."""
        match command:
            case ForgetCustomer() if self.forgotten:
                return []
            case RecordErasure() if self.erased:
                return []
            case RecordErasure() if self.forgotten:
                return [ErasureRecorded(**dict(command))]
            case _ if self.forgotten:
                raise CustomerErased(customer_id=command.customer_id)

            case RegisterCustomer(customer_id=id) if self.email is not None:
                raise CustomerExists(customer_id=id)
            case RegisterCustomer(customer_id=id, name=name, email=email, member_since=since):
                joined = CustomerRegistered(customer_id=id, name=name, email=email, member_since=since)
                return [_alone(email, id), joined]
            case _ if self.email is None:
                raise UnknownCustomer(customer_id=command.customer_id)

            case ChangeEmail(email=email) if email == self.email:
                return []
            case ChangeEmail(customer_id=id, email=email):
                old = Free("customer.email", self.email)
                return [old, _alone(email, id), EmailChanged(customer_id=id, email=email)]

            case RecordLogin(at=at) if self.last_login is not None and at <= self.last_login:
                return []
            case RecordLogin(customer_id=id, at=at):
                return [LoginRecorded(customer_id=id, at=at)]

            case ForgetCustomer(customer_id=id, reason=reason):
                return [Free("customer.email", self.email), CustomerForgotten(customer_id=id, reason=reason)]
            case RecordErasure(customer_id=id):
                raise NotForgotten(customer_id=id)
            case _:
                assert_never(command)

    def evolve(self, event: CustomerEvent) -> Self:
        """The customer after an event."""
        match event:
            case CustomerRegistered(email=email) | EmailChanged(email=email):
                return self.having(email=email)
            case LoginRecorded(at=at):
                return self.having(last_login=at)
            case CustomerForgotten():
                return self.having(email=None, last_login=None, forgotten=True)
            case ErasureRecorded():
                return self.having(erased=True)
            case _:
                assert_never(event)


def _alone(email: str, customer_id: str) -> Claim:
    """An address belongs to one customer; the refusal names who asked, never the address."""
    return Claim("customer.email", email, EmailTaken(customer_id=customer_id))
