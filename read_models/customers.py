"""Customers as they have told of themselves: personal data, which no other read model holds."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Index, Text, select

from amends import Recorded
from amends.asking import checked
from amends.changes import Rows
from amends.projection import Projection
from amends.query import Query, first
from amends.values import FORGOTTEN
from domain.customer import CustomerForgotten, CustomerRegistered, EmailChanged, ErasureRecorded, LoginRecorded
from read_models.searching import document, folded, trigram_index, word_index

__all__ = ["CustomerRow", "customer", "customers"]

WORDS = "coalesce(name_words, '') || ' ' || coalesce(email_words, '')"

customers = Projection("customers", version=3)

members = customers.table(
    "customers",
    Column("customer_id", Text, primary_key=True, comment="The customer."),
    Column("registered_at", DateTime(timezone=True), comment="Customer since."),
    Column("name", Text, comment="What the customer is called. Personal data."),
    Column("email", Text, comment="Where mail goes. Personal data."),
    Column("last_login", DateTime(timezone=True), comment="When the customer last logged in; null if never."),
    Column("name_words", Text, comment="The name as searches see it: small letters, no accents. Personal data."),
    Column("email_words", Text, comment="The e-mail address as searches see it, likewise. Personal data."),
    Index("customers_by_time", "registered_at", "customer_id"),
    word_index("customers_by_word", WORDS),
    trigram_index("customers_by_letters", WORDS),
    comment="One row a registered customer. Holds personal data.",
    computed={
        "words": (WORDS, "Name and e-mail address as searches see them. Personal data."),
        "document": (
            document(WORDS),
            "What full-text searches find the customer by: document @@ to_tsquery('simple', 'ada:*'). Personal data.",
        ),
    },
)

forgotten = customers.table(
    "erasures",
    Column("customer_id", Text, primary_key=True, comment="Who was forgotten."),
    Column("forgotten_at", DateTime(timezone=True), comment="When the customer was taken off the books."),
    Column("forgotten_by", Text, comment="On whose behalf."),
    Column("reason", Text, comment="Why."),
    Column("key_destroyed_at", DateTime(timezone=True), comment="When the key of the personal data was destroyed."),
    Column("events_sealed", BigInteger, comment="Events whose personal data can't be read any more."),
    Column("events_in_clear", BigInteger, comment="Events from before personal data were sealed: theirs can be read."),
    Column("read_models", Text, comment="Builds of read models that were seen to hold nothing of the customer."),
    Column("certified_at", DateTime(timezone=True), comment="When all that was put on record; null until then."),
    comment="One row a customer who was forgotten: the certificate.",
)


@customers.on(CustomerRegistered)
def registered(event: CustomerRegistered, fact: Recorded, rows: Rows) -> None:
    """Somebody has become a customer."""
    rows(members, event.customer_id).set(
        registered_at=event.member_since or fact.recorded_at,
        name=event.name,
        email=event.email,
        name_words=folded(event.name),
        email_words=folded(event.email),
    )


@customers.on(EmailChanged)
def email_changed(event: EmailChanged, fact: Recorded, rows: Rows) -> None:
    """Mail goes elsewhere; nothing is left of the old address."""
    rows(members, event.customer_id).set(email=event.email, email_words=folded(event.email))


@customers.on(LoginRecorded)
def logged_in(event: LoginRecorded, fact: Recorded, rows: Rows) -> None:
    """A customer has logged in."""
    rows(members, event.customer_id).greatest(last_login=event.at)


@customers.on(CustomerForgotten)
def taken_off(event: CustomerForgotten, fact: Recorded, rows: Rows) -> None:
    """Nothing personal is left."""
    rows(members, event.customer_id).set(
        name=FORGOTTEN,
        email=FORGOTTEN,
        name_words=None,
        email_words=None,
        last_login=None,
    )
    rows(forgotten, event.customer_id).set(forgotten_at=fact.recorded_at, forgotten_by=fact.actor, reason=event.reason)


@customers.on(ErasureRecorded)
def recorded(event: ErasureRecorded, fact: Recorded, rows: Rows) -> None:
    """It is on record that nothing can be read any more."""
    rows(forgotten, event.customer_id).set(
        key_destroyed_at=event.key_destroyed_at,
        events_sealed=event.events_sealed,
        events_in_clear=event.events_in_clear,
        read_models=", ".join(event.read_models),
        certified_at=fact.recorded_at,
    )


class CustomerRow(BaseModel):
    """That somebody is a customer, without personal data; the rest is in `views.customer_profile`."""

    customer_id: str
    registered_at: datetime


_members = customers.view("customers")
_erasures = customers.view("erasures")


@checked
def customer(customer_id: str) -> Query[CustomerRow | None]:
    """One customer who is on the books, without personal data."""
    known = select(_members.c.customer_id, _members.c.registered_at)
    gone = select(_erasures.c.customer_id).where(_erasures.c.customer_id == customer_id)
    return first(known.where(_members.c.customer_id == customer_id, ~gone.exists()), CustomerRow)
