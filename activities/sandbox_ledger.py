"""The books of the pretend payment provider: tables of its own (schema `gateway`) and what is done to them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["install", "ledger_metadata"]

STATUSES = "status in ('charged', 'authorised', 'declined', 'pending')"

ledger_metadata = MetaData(schema="gateway")
"""The sandbox's books."""

requests = Table(
    "requests",
    ledger_metadata,
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False, comment="Hash of the request, to tell a repeat from another request."),
    Column("attempts", Integer, nullable=False, comment="How often it came."),
    Column("answer", JSONB(none_as_null=True), comment="What was answered, and will be again; null before that."),
    comment="Idempotency keys: each acts once.",
)
payments = Table(
    "payments",
    ledger_metadata,
    Column("payment_id", Text, primary_key=True),
    Column("voided", Boolean, nullable=False, comment="Given back, or called off: later charges are declined."),
    comment="Payments that charges and refunds are about; the row is what they take turns on.",
)
charges = Table(
    "charges",
    ledger_metadata,
    Column("provider_ref", Text, primary_key=True),
    Column("payment_id", Text, nullable=False, index=True),
    Column("card", Text, nullable=False, comment="Which test card; the token itself is not kept."),
    Column("amount", BigInteger, CheckConstraint("amount > 0"), nullable=False, comment="Minor units."),
    Column("currency", Text, nullable=False),
    Column("status", Text, CheckConstraint(STATUSES, name="charges_known_status"), nullable=False),
    Column("reason", Text, comment="Why it was, or will be, declined."),
    Column("settles_as", Text, comment="What a transfer or an authorisation becomes at settles_at."),
    Column("settles_at", DateTime(timezone=True)),
    Column("refunded", BigInteger, nullable=False, server_default=text("0"), comment="Minor units given back."),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    CheckConstraint("refunded >= 0 and refunded <= amount and (refunded = 0 or status = 'charged')", name="no_gain"),
    comment="Money asked for: one row each time a key acted.",
)

LEARN_TO_HOLD = f"""
do $$ begin
    if exists (
        select from pg_constraint where conrelid = 'gateway.charges'::regclass and conname = 'charges_status_check'
    ) then
        alter table gateway.charges drop constraint charges_status_check,
            add constraint charges_known_status check ({STATUSES});
    end if;
end $$
"""
"""Let books that were opened before there were authorisations hold them too; others are left alone, unlocked."""

TAKE_KEY = """
insert into gateway.requests (key, fingerprint, attempts) values (%s, %s, 1)
on conflict (key) do update set attempts = requests.attempts + 1
returning fingerprint, attempts, answer
"""
"""Count an attempt under a key, and wait for whoever is at work on it."""

ANSWER = "update gateway.requests set answer = %s where key = %s"
"""Keep the answer for repeats."""

TAKE_PAYMENT = """
insert into gateway.payments (payment_id, voided) values (%(payment_id)s, %(void)s)
on conflict (payment_id) do update set voided = payments.voided or excluded.voided
returning voided
"""
"""Take turns on a payment, voiding it where asked to."""

HOLD_PAYMENT = "select voided from gateway.payments where payment_id = %s for update"
"""Take turns on a payment, if there is one."""

ADD_CHARGE = """
insert into gateway.charges
    (provider_ref, payment_id, card, amount, currency, status, reason, settles_as, settles_at)
values (%(provider_ref)s, %(payment_id)s, %(card)s, %(amount)s, %(currency)s, %(status)s, %(reason)s,
        %(settles_as)s, case when %(settles_as)s::text is not null then clock_timestamp() + %(settles_in)s end)
"""
"""Put a charge on the books."""

SETTLE = """
update gateway.charges set status = settles_as
where payment_id = %s and status in ('pending', 'authorised') and settles_at <= clock_timestamp()
"""
"""Let the transfers of a payment settle, and its authorisations lapse, whose time has come."""

SETTLE_NOW = """
update gateway.charges
set settles_as = %(status)s, settles_at = clock_timestamp(),
    reason = case when %(status)s = 'declined' then 'failed' end
where payment_id = %(payment_id)s and status = 'pending'
"""
"""Let the time of a payment's pending transfers have come."""

CARD = "select card from gateway.charges where payment_id = %s order by created_at desc limit 1"
"""Which test card a payment was last asked of."""

CAPTURE = """
update gateway.charges
set status = case when card = %(declining)s then 'declined' else 'charged' end,
    reason = case when card = %(declining)s then %(declining)s end, settles_as = null, settles_at = null
where payment_id = %(payment_id)s and status = 'authorised'
"""
"""Take what is held for a payment, unless its card does not give it after all."""

LATEST = """
select status, provider_ref, case when status = 'declined' then reason end from gateway.charges
where payment_id = %s
order by array_position(array['charged', 'authorised', 'pending', 'declined'], status), created_at desc limit 1
"""
"""What a payment has come to: charged if any charge is, else held, else pending, else the last one declined."""

GIVE_BACK = """
update gateway.charges
set refunded = case when status = 'charged' then amount else 0 end,
    reason = case when status in ('pending', 'authorised') then %(voided)s else reason end,
    status = case when status in ('pending', 'authorised') then 'declined' else status end,
    settles_as = null, settles_at = null
where payment_id = %(payment_id)s
"""
"""Give back what was taken for a payment and void what is pending or held."""

GIVE_BACK_PART = """
with taken as (
    select provider_ref, amount - refunded as rest,
           sum(amount - refunded) over (order by created_at, provider_ref) - (amount - refunded) as before
    from gateway.charges where payment_id = %(payment_id)s and status = 'charged'
)
update gateway.charges set refunded = refunded + least(rest, %(part)s - before)
from taken where taken.provider_ref = charges.provider_ref and before < %(part)s
"""
"""Give back a part of what was taken for a payment, from the oldest charge on; never more than is left of each."""

BALANCE = """
select currency, case when status = 'charged' then amount else 0 end, refunded
from gateway.charges where payment_id = %s
"""
"""What each charge of a payment has taken and given back."""

TOTALS = """
select coalesce(sum(amount), 0)::bigint, coalesce(sum(refunded), 0)::bigint from gateway.charges
where currency = %(currency)s and (%(payments)s::text[] is null or payment_id = any(%(payments)s))
  and (status = 'charged' or (status = 'pending' and settles_as = 'charged' and settles_at <= clock_timestamp()))
"""
"""All that was taken and given back in a currency: not what is only held; transfers from the moment they settle."""


def install(connection: Connection) -> None:
    """Create the sandbox's books where they are missing, and let the writer role keep them.

    Args:
        connection: of the database's owner; the roles must be there. All happens in its transaction.
    """
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtext("gateway.install"))))
    connection.execute(text("create schema if not exists gateway"))
    ledger_metadata.create_all(connection)
    connection.execute(text(LEARN_TO_HOLD))
    connection.execute(text("grant usage on schema gateway to amends_writer"))
    connection.execute(text("grant select, insert, update on all tables in schema gateway to amends_writer"))
