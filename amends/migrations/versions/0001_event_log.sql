-- Roles. They log in nowhere: a login is made a member of those it may act as.
do $$
declare
    wanted text;
    -- since version 16 whoever creates a role is its member, but may not act as it
    may_act_as constant text := case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
begin
    foreach wanted in array array['amends_writer', 'amends_projector', 'amends_reader'] loop
        begin
            -- an administrator may have made them, for an owner who may make none
            if not exists (select from pg_roles where rolname = wanted) then
                execute format('create role %I nologin', wanted);
            end if;
        exception when duplicate_object or unique_violation then
            null; -- roles belong to the whole cluster: another database's migration was first
        end;
        if not pg_has_role(current_user, wanted, may_act_as) then
            begin
                execute format('grant %I to current_user', wanted);
            exception
                when unique_violation then
                    null; -- granted by a migration of another database in this very moment
                when insufficient_privilege then
                    raise exception 'the role % is there, but % may not act as it; have its owner run: grant % to %',
                        wanted, current_user, wanted, current_user using errcode = 'insufficient_privilege';
            end;
        end if;
    end loop;
end
$$;

create schema read_models;
create schema views;
comment on schema amends is 'The event log and what keeps it: private to the engine.';
comment on schema read_models is 'Tables of the projections, one set a version: private to the projector.';
comment on schema views is 'The public SQL interface: every view here is documented and stable.';

-- The head of each stream: its version is the optimistic lock, its xid guards the order within the stream.
create table amends.streams (
    stream text primary key,
    version integer not null,
    xid xid8 not null
) with (fillfactor = 50);

-- Everything that has happened. The feed's order is (xid, position); a stream's order is its version.
create table amends.events (
    xid xid8 not null default pg_current_xact_id(),
    position bigint not null generated always as identity,
    stream text not null,
    version integer not null,
    event_id uuid not null default gen_random_uuid(),
    name text not null,
    schema_version smallint not null,
    data jsonb not null,
    correlation_id text not null,
    causation_id text not null,
    command_id text not null,
    actor text not null,
    trace text,
    recorded_at timestamptz not null default clock_timestamp(),
    primary key (xid, position),
    unique (stream, version)
);

-- Everything that was asked for and what became of it: the audit log, and what makes a command act once.
create table amends.commands (
    command_id text primary key,
    name text not null,
    stream text not null,
    payload jsonb not null,
    outcome text not null check (outcome in ('done', 'refused')),
    refusal jsonb check ((refusal is null) = (outcome = 'done')),
    version integer not null,
    events integer not null,
    xid xid8 not null,
    position bigint not null,
    actor text not null,
    workflow_id text,
    correlation_id text not null,
    causation_id text not null,
    trace text,
    attempt integer not null,
    started_at timestamptz not null,
    recorded_at timestamptz not null default clock_timestamp()
);
create index commands_by_correlation on amends.commands (correlation_id, recorded_at);

-- Values that one stream at a time may hold, as hashes: an e-mail address, a reservation's name.
create table amends.claims (
    scope text not null,
    hash bytea not null,
    stream text not null,
    command_id text not null,
    primary key (scope, hash)
);

-- States of aggregates, so that a long stream is not replayed from its start. Only ever a short cut.
create table amends.snapshots (
    stream text primary key,
    version integer not null,
    schema_version smallint not null,
    state jsonb not null
);

-- How far each projection has come. Moved in the same transaction as the projection's rows.
create table amends.checkpoints (
    projection text not null,
    version integer not null,
    xid xid8 not null default '0',
    position bigint not null default 0,
    events bigint not null default 0,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (projection, version)
) with (fillfactor = 10);

create function amends.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on %.% is refused: what has happened is not changed',
        tg_op, tg_table_schema, tg_table_name using errcode = 'insufficient_privilege';
end
$$;
create trigger events_are_facts before update or delete or truncate on amends.events
    for each statement execute function amends.refuse_change();
create trigger commands_are_facts before update or delete or truncate on amends.commands
    for each statement execute function amends.refuse_change();

-- Appends what one command led to, or says why not, in one call and one transaction:
--   repeated: the command id is known; the recorded outcome comes back and nothing is written
--   conflict: the stream is not at the expected version; the events since then come back
--   appended: events, claims, command record and (when due) the snapshot are written
-- Raises AM001 when a value is claimed already (its index in DETAIL), AM002 when the command id was used for another
-- command, and 40001 when the caller should try again.
create function amends.append(
    request jsonb,
    out status text, out at_version integer, out at_xid bigint, out at_position bigint, out detail jsonb
) language plpgsql as $$
declare
    known amends.commands;
    head amends.streams;
    target constant text := request ->> 'stream';
    expected constant integer := request ->> 'expected';
    count constant integer := jsonb_array_length(request -> 'events');
    me xid8;
    taken integer;
begin
    select * into known from amends.commands c where c.command_id = request ->> 'command_id';
    if found then
        if known.name <> request ->> 'name' or known.stream <> target then
            raise exception 'command id % was used for % on %', known.command_id, known.name, known.stream
                using errcode = 'AM002';
        end if;
        status := 'repeated';
        at_version := known.version;
        at_xid := known.xid::text::bigint;
        at_position := known.position;
        detail := jsonb_build_object('outcome', known.outcome, 'refusal', known.refusal, 'payload', known.payload);
        return;
    end if;

    -- whoever lost too often takes this lock alone, and the others wait here, before they hold anything
    perform pg_advisory_xact_lock_shared(hashtextextended(target, 0));

    if count > 0 then
        me := pg_current_xact_id();
        if expected = 0 then
            insert into amends.streams values (target, count, me) on conflict do nothing;
        else
            -- a later transaction id at the head would put our events before it in the feed
            update amends.streams s set version = expected + count, xid = me
            where s.stream = target and s.version = expected and s.xid <= me;
        end if;
        if not found then
            select * into head from amends.streams s where s.stream = target;
            if head.version = expected then
                raise exception 'stream % was written by a later transaction', target using errcode = '40001';
            end if;
            status := 'conflict';
        end if;
    else
        select * into head from amends.streams s where s.stream = target;
        if coalesce(head.version, 0) <> expected then
            status := 'conflict';
        end if;
    end if;

    if status = 'conflict' then
        at_version := coalesce(head.version, 0);
        select coalesce(jsonb_agg(jsonb_build_object(
            'version', e.version, 'name', e.name, 'schema_version', e.schema_version, 'data', e.data
        ) order by e.version), '[]') into detail
        from amends.events e where e.stream = target and e.version > expected and e.version <= at_version;
        return;
    end if;

    if count > 0 then
        insert into amends.events (xid, stream, version, name, schema_version, data,
                                   correlation_id, causation_id, command_id, actor, trace)
        select me, target, expected + e.n, e.name, e.version, e.data,
               request ->> 'correlation_id', request ->> 'causation_id', request ->> 'command_id',
               request ->> 'actor', request ->> 'trace'
        from rows from (jsonb_to_recordset(request -> 'events') as (name text, version smallint, data jsonb))
             with ordinality as e (name, version, data, n)
        order by e.n;
        at_xid := me::text::bigint;
        at_position := currval('amends.events_position_seq');
    else
        select e.xid::text::bigint, e.position into at_xid, at_position
        from amends.events e where e.stream = target and e.version = expected;
        at_xid := coalesce(at_xid, 0);
        at_position := coalesce(at_position, 0);
    end if;
    at_version := expected + count;

    delete from amends.claims c
    using jsonb_to_recordset(request -> 'frees') as f (scope text, hash text)
    where c.scope = f.scope and c.hash = decode(f.hash, 'hex') and c.stream = target;

    if jsonb_array_length(request -> 'claims') > 0 then
        with wanted as (
            select w.* from rows from (jsonb_to_recordset(request -> 'claims') as (scope text, hash text, required boolean))
                       with ordinality as w (scope, hash, required, n)
        ), got as (
            insert into amends.claims (scope, hash, stream, command_id)
            select w.scope, decode(w.hash, 'hex'), target, request ->> 'command_id'
            from wanted w order by w.scope, w.hash
            on conflict do nothing returning scope, encode(hash, 'hex') as hash
        )
        select min(w.n) into taken from wanted w
        where w.required and not exists (select from got g where g.scope = w.scope and g.hash = w.hash);
        if taken is not null then
            raise exception 'a claimed value is taken' using errcode = 'AM001', detail = (taken - 1)::text;
        end if;
        if count = 0 then
            -- a claim may have waited for somebody who has written to the stream meanwhile: decide again on that
            select * into head from amends.streams s where s.stream = target;
            if coalesce(head.version, 0) <> expected then
                raise exception 'stream % moved on', target using errcode = '40001';
            end if;
        end if;
    end if;

    insert into amends.commands (command_id, name, stream, payload, outcome, refusal, version, events, xid, position,
                                 actor, workflow_id, correlation_id, causation_id, trace, attempt, started_at)
    values (request ->> 'command_id', request ->> 'name', target, request -> 'payload', request ->> 'outcome',
            nullif(request -> 'refusal', 'null'), at_version, count, at_xid::text::xid8, at_position,
            request ->> 'actor', request ->> 'workflow_id', request ->> 'correlation_id',
            request ->> 'causation_id', request ->> 'trace', (request ->> 'attempt')::integer,
            (request ->> 'started_at')::timestamptz)
    on conflict do nothing;
    if not found then
        raise exception 'command % is being recorded by somebody else', request ->> 'command_id'
            using errcode = '40001';
    end if;

    if request -> 'snapshot' <> 'null' then
        insert into amends.snapshots values (
            target, at_version, (request #>> '{snapshot,schema_version}')::smallint, request #> '{snapshot,state}')
        on conflict (stream) do update
            set version = excluded.version, schema_version = excluded.schema_version, state = excluded.state
            where snapshots.version < excluded.version or snapshots.schema_version <> excluded.schema_version;
    end if;
    status := 'appended';
end
$$;
comment on function amends.append is 'Appends what one command led to, once, in one transaction.';

-- The transaction that has been writing for longest; as the owner, for others may not look at the sessions.
create function amends.oldest_writer(out pid integer, out application text, out seconds float8)
returns setof record language sql security definer set search_path = pg_catalog as $$
    select a.pid, a.application_name, extract(epoch from clock_timestamp() - a.xact_start)::float8
    from pg_stat_activity a
    where a.backend_xid is not null and a.pid <> pg_backend_pid() order by age(a.backend_xid) desc limit 1
$$;

-- What the feed waits for: events at or past the horizon are not shown yet, because a transaction is still open.
create view views.feed_status as
select (select max(e.position) from amends.events e
        where e.xid = (select max(l.xid) from amends.events l)) as head_position,
       (select max(l.xid)::text::bigint from amends.events l) as head_xid,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon_xid,
       oldest.pid as oldest_pid,
       oldest.application as oldest_application,
       oldest.seconds as oldest_seconds
from (values (1)) as one left join amends.oldest_writer() oldest on true;
comment on view views.feed_status is 'How far the event log goes and what, if anything, holds its readers back.';
comment on column views.feed_status.head_position is 'Number of the last event in feed order.';
comment on column views.feed_status.head_xid is 'Transaction that wrote the last event in feed order.';
comment on column views.feed_status.horizon_xid is 'Readers see the events of transactions before this one.';
comment on column views.feed_status.oldest_pid is 'Process of the oldest transaction that writes; null when there is none.';
comment on column views.feed_status.oldest_application is 'Application name of that process.';
comment on column views.feed_status.oldest_seconds is 'Age of that transaction, in seconds.';

create view views.projection_status as
select c.projection, c.version, c.xid::text::bigint as xid, c.position, c.events, c.updated_at from amends.checkpoints c;
comment on view views.projection_status is 'How far each projection has read the event log.';
comment on column views.projection_status.projection is 'Name of the projection.';
comment on column views.projection_status.version is 'Version of its read model.';
comment on column views.projection_status.xid is 'Transaction part of its position in the feed.';
comment on column views.projection_status.position is 'Number part of its position in the feed.';
comment on column views.projection_status.events is 'Events it has read so far.';
comment on column views.projection_status.updated_at is 'When it last moved.';

revoke all on schema amends, read_models, views from public;
revoke execute on all functions in schema amends from public;
grant usage on schema amends to amends_writer, amends_projector;
grant execute on function amends.append to amends_writer;
grant select, insert on amends.events, amends.commands to amends_writer;
grant usage on sequence amends.events_position_seq to amends_writer;
grant select, insert, update on amends.streams, amends.snapshots to amends_writer;
grant select, insert, delete on amends.claims to amends_writer;
grant select on amends.events to amends_projector;
grant select, insert, update on amends.checkpoints to amends_projector;
grant usage on schema read_models to amends_projector;
grant usage on schema views to amends_reader, amends_writer, amends_projector;
grant execute on function amends.oldest_writer to amends_reader;
grant select on views.feed_status, views.projection_status to amends_reader;
