"""Appending by SQLAlchemy's ORM, as its documentation has it: mapped classes, a session a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import perf_counter
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Text, UniqueConstraint, create_engine, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from bench.harness import Contender, Sample
from bench.servers import Servers
from bench.work import Append, Appends, Row, data_of, event_row

__all__ = ["Orm"]


class Base(DeclarativeBase):
    """Home of the mapped classes."""


class Stream(Base):
    """A stream's head; its version is the optimistic lock."""

    __tablename__ = "streams"
    stream: Mapped[str] = mapped_column(Text, primary_key=True)
    events: Mapped[int]
    revision: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": revision}  # noqa: RUF012  as SQLAlchemy wants it


class Event(Base):
    """What has happened."""

    __tablename__ = "events"
    position: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    stream: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    command_id: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    __table_args__ = (UniqueConstraint("stream", "version"),)


class Command(Base):
    """What was asked for."""

    __tablename__ = "commands"
    command_id: Mapped[str] = mapped_column(Text, primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    stream: Mapped[str] = mapped_column(Text)
    payload: Mapped[dict[str, Any]] = mapped_column(JSONB)
    outcome: Mapped[str] = mapped_column(Text)
    version: Mapped[int]
    actor: Mapped[str] = mapped_column(Text)
    recorded_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


class Orm(Contender[Appends]):
    """An event store such as one writes by hand."""

    name = "SQLAlchemy ORM"
    note = "mapped stream (version_id_col), events and command, one Session a command; writers are threads"

    async def open(self, servers: Servers) -> None:
        """An engine with a connection for each writer."""
        url = servers.database("append_orm").replace("postgresql://", "postgresql+psycopg://")
        self._engine = create_engine(url, pool_size=32)
        self._session = sessionmaker(self._engine, expire_on_commit=False)
        Base.metadata.create_all(self._engine)

    async def work(self, work: Appends) -> Sample:
        """Every writer appends one command after the other."""
        return await asyncio.to_thread(self._run, work)

    def _run(self, work: Appends) -> Sample:
        with ThreadPoolExecutor(work.writers) as writers:
            begun = perf_counter()
            list(writers.map(lambda writer: self._write(work, writer), range(work.writers)))
            return Sample(work.units, perf_counter() - begun)

    def _write(self, work: Appends, writer: int) -> None:
        for command in work.of(writer):
            with self._session.begin() as session:
                _append(session, command)

    async def left(self, work: Appends) -> Sequence[Row]:
        """Events and commands."""
        with self._session() as session:
            mine = f"{work.prefix}%"
            events = session.scalars(select(Event).where(Event.stream.like(mine)))
            commands = session.scalars(select(Command).where(Command.stream.like(mine)))
            return [event_row(event.stream, event.version, event.data) for event in events] + [
                (f"command {command.command_id}", command.stream, command.version, "") for command in commands
            ]

    async def close(self) -> None:
        """Close the engine."""
        self._engine.dispose()


def _append(session: Session, command: Append) -> None:
    if session.get(Command, command.id) is not None:
        return
    head = session.get(Stream, command.stream)
    if head is None:
        head = Stream(stream=command.stream, events=0)
        session.add(head)
    if head.events != command.expected:
        raise RuntimeError(f"{command.stream} is at {head.events}, not at {command.expected}")
    head.events += command.events
    for version, id in enumerate(command.event_ids, command.expected + 1):
        session.add(
            Event(
                stream=command.stream,
                version=version,
                name="stock.reserved",
                data=data_of(command.sku, id),
                command_id=command.id,
                actor="bench",
            )
        )
    session.add(
        Command(
            command_id=command.id,
            name="stock.reserve",
            stream=command.stream,
            payload=data_of(command.sku, command.id),
            outcome="done",
            version=head.events,
            actor="bench",
        )
    )
