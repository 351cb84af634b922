"""What the profiles say of results: where the time goes, what the limit is, and what would lift it."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FINDINGS"]

FINDINGS: Mapping[str, str] = {
    "append": """\
**What keeps a writer from pgbench's rate** is that pgbench is C and a writer is Python. Of a lone writer's time (py-spy
over 6,000 appends) 53 % is psycopg sending the statement and waiting for its answer, a fifth of that for telling the
event loop which socket to watch and which no longer; 11 % is taking a connection from the pool and giving it back; 8 %
is writing the request's JSON; 6 % making the command. With several writers the process's one core is full, at 350 to
400 µs a command on this machine, while pgbench's clients have the other core to themselves. What lifts it: more worker
processes, which share nothing but the server. What does not: uvloop took 5 to 8 % off and is not worth a dependency;
pipeline mode hurts single statements; a NOTIFY in the transaction halves the rate at 32 writers.

**eventsourcing's database functions** are one call too, with the command's record as a further event. Alone, one or
the other is ahead from run to run. They take no lock, so that readers may skip events that are committed late.
""",
    "commands": """\
**Level to 100,000 events on one stream**: warm, a command is decided on the state at hand, whatever is behind it; cold,
it is loaded from the latest snapshot, and a snapshot is due every 200 events, or later where the state is large, so a
cold load reads up to as many events. That, not the length of the stream, is what the cold figures vary with.
""",
    "projection": """\
**INSERT … SELECT does inside the server what a projector does outside**: events come out as rows, are validated as the
classes that handlers take, folded by handlers written in Python, and go back as one JSON document a table. Of a
projector's time (py-spy, 20,000 orders) 21 % is reading the feed, 34 % making events (half of that validating their
JSON), 29 % handlers and folding, 12 % writing: about 31 µs an event on this machine, where the server alone takes 3.
With one statement a table and a transaction for two thousand events the server hardly matters any more: what is left is
Python. What lifts it: partitions, one process and core each (`Projection(…, partitions=2)`); a projection that is
written as SQL, which could not be tested without a database, nor park a single event of a batch.

On the short log, opening a pool and connecting count too, with everybody: for us a quarter of the time, for the three
statements two thirds, for the ProjectionRunner a few hundredths. Left out, ours was 38 to 57 times the runner in other
runs, and 0.15 of the statements; the runner starts as it connects, so that it can't be left out for all.
""",
    "freshness": """\
**Where a wait goes**, step by step, at 20 events/s: hearing of the append 0.85 ms, reading the feed 0.85, folding 0.15,
writing rows and checkpoint in a transaction 1.75 (begin, checkpoint, rows, commit), telling of it 0.4, being heard 0.6:
4.6 ms on this machine, where one statement's way from Python to the server and back takes 0.4 and all of it happens in
one process. A reader that listens asks the database nothing: a note says how far a projection has come and that nothing
of it is parked, which took the median from 20 ms to 5 here, where waits had queued for the one core. What would lift
the rest: telling the projector of an append in the same process without PostgreSQL between (0.8 ms, for half of the
deployments), checkpoint and rows in one statement (0.8 ms). Begin and checkpoint sent together, in pipeline mode, took
as long as apart: what costs is the driver's work, not the way.
""",
    "sagas": """\
**What a saga costs beside the same topology by hand.** By hand: one catch-all undo, nothing that says how far it
came. Ours: an undo registered before each step, the saga's own log opened and closed (two commands), prices read as a
step of its own, updates that count only when the history knows of them, search attributes and the closing note. That
is 27 entries of history for 19, 8 billed actions for 5 (the three: the pivot as an activity of its own, the task
behind it, and the attribute that shows the end in lists), three rows more. A local activity takes the SDK about 4 ms
of CPU on either side here, whatever it does; statements and our own code are a sixth of the worker's time. The pivot
as a local activity would save two actions and five entries, and was taken back: a saga that is terminated behind it
would be resumed from before its last outside call. Fewer, larger steps would save the rest, and the repair of single
steps with it.

**DBOS and the tutorial's form.** The tutorial's four ordinary activities are as fast as what is written by hand with
local ones, within a fifth, so that twice their rate is out of reach for anything that runs on Temporal: the server
itself takes two thirds of a core for each 10 sagas a second. DBOS has no such server: its steps are rows that one
process writes to PostgreSQL. It answers no update while a workflow runs, and shows no history but those rows; with 64
at a time the difference is a quarter. What would lift it: a Temporal server on cores of its own (here both servers, the
worker and the client share two).
""",
    "growth": """\
**Level** is what a command, the end of the feed, a search, a page of orders and a saga cost, and what memory a worker
holds; a rebuild has the same rate from beginning to end. The bound is against the smallest log; that larger ones come
out cheaper here and there is the machine, whose speed varies by a third from minute to minute.
""",
    "startup": """\
**What an import takes** is told best beside what it is made of: the Temporal SDK's client alone is half of it, and by
itself longer than the bound on this machine. The rest is pydantic making the classes of messages (a quarter), and our
modules. SQLAlchemy, psycopg, Alembic, rich and structlog are imported when somebody connects, migrates or logs, which
took two fifths off. What would lift it: classes that are built when they are first used, which would move the time into
a worker's first workflow tasks.

**From nothing to the first order**: 1.7 s for the command line's and the shop's modules, 1.8 s for a database cluster
made and both servers started, 0.7 s for the schema, meanwhile 2.6 s for the worker's modules in a process beside;
then 0.5 s for the catalogue, 0.4 s for the order. All of it is CPU on two cores, so it goes with the speed of the
machine, which Python's own start above tells.
""",
}
"""Markdown, by benchmark; of the machine that the kept results were taken on."""
