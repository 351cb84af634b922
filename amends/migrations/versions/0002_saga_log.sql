-- What a command is to its saga. Calls to the outside leave rows too: one when they begin, if they can be undone, and
-- one with their answer; their stream is the saga's own, which has no events.
alter table amends.commands
    add column number bigint generated always as identity,
    add column step_id text,
    add column step text,
    add column kind text check (kind in ('step', 'undo')),
    add column undo jsonb,
    add column undoes text,
    add column pivot boolean not null default false,
    drop constraint commands_outcome_check,
    add constraint commands_outcome_check check (outcome in ('done', 'refused', 'begun')),
    drop constraint commands_check,
    add constraint commands_check check ((refusal is not null) = (outcome = 'refused'));
create index commands_of_sagas on amends.commands (name, recorded_at) where name like 'saga.%';
create index closed_sagas on amends.commands (correlation_id, workflow_id) where name = 'saga.close';

-- Sagas that are over, or were ended from outside: none of their steps may act any more, save those of the run that
-- has closed itself, whose last task may have been lost and is done again.
create table amends.fences (
    saga text primary key,
    run_id text,
    actor text not null,
    reason text not null,
    fenced_at timestamptz not null default clock_timestamp()
);

-- Ends a saga from outside, or learns that it has passed its pivot and must go forward instead.
create function amends.fence(id text, who text, why text) returns boolean language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('saga:' || id, 0));
    if exists (select from amends.commands c
               where c.correlation_id = id and c.pivot and c.outcome in ('done', 'begun')
                 and not exists (select from amends.commands r
                                 where r.correlation_id = id and r.step_id = c.step_id and r.outcome = 'refused')) then
        return false;
    end if;
    insert into amends.fences (saga, actor, reason) values (id, who, why)
    on conflict (saga) do update set run_id = null where fences.run_id is not null;
    return true;
end
$$;
comment on function amends.fence is 'Ends a saga from outside: true; false when it has passed its pivot.';

-- Appends what one command led to, or says why not, in one call and one transaction:
--   repeated: the command id is known; the recorded outcome comes back and nothing is written
--   conflict: the stream is not at the expected version; the events since then come back
--   appended: events, claims, command record and (when due) the snapshot are written
-- Raises AM001 when a value is claimed already (its index in DETAIL), AM002 when the command id was used for another
-- command, AM003 when the step's saga has been ended from outside, and 40001 when the caller should try again.
create or replace function amends.append(
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
    sagas text[];
begin
    if (request ->> 'guarded')::boolean then
        -- the workflow and all those above it, as far as the saga's own
        select array_agg(path) into sagas from (
            select array_to_string((string_to_array(request ->> 'workflow_id', '/'))[1:n], '/') as path
            from generate_series(1, cardinality(string_to_array(request ->> 'workflow_id', '/'))) as n
        ) paths where length(path) >= length(request ->> 'correlation_id');
        -- whoever ends a saga from outside takes these locks alone, so that no step slips in behind the undoing
        perform pg_advisory_xact_lock_shared(hashtextextended('saga:' || saga, 0))
        from unnest(sagas || (request ->> 'correlation_id')) as saga;
        if exists (select from amends.fences f
                   where f.saga = any (sagas || (request ->> 'correlation_id'))
                     and f.run_id is distinct from (request ->> 'run_id')) then
            raise exception 'the saga of step % has been ended', request ->> 'command_id' using errcode = 'AM003';
        end if;
    end if;

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
                                 actor, workflow_id, correlation_id, causation_id, trace, attempt, started_at,
                                 step_id, step, kind, undo, undoes, pivot)
    values (request ->> 'command_id', request ->> 'name', target, request -> 'payload', request ->> 'outcome',
            nullif(request -> 'refusal', 'null'), at_version, count, at_xid::text::xid8, at_position,
            request ->> 'actor', request ->> 'workflow_id', request ->> 'correlation_id',
            request ->> 'causation_id', request ->> 'trace', (request ->> 'attempt')::integer,
            (request ->> 'started_at')::timestamptz,
            request ->> 'step_id', request ->> 'step', request ->> 'kind', nullif(request -> 'undo', 'null'),
            request ->> 'undoes', coalesce((request ->> 'pivot')::boolean, false))
    on conflict do nothing;
    if not found then
        raise exception 'command % is being recorded by somebody else', request ->> 'command_id'
            using errcode = '40001';
    end if;

    if request ->> 'name' = 'saga.close' and request #>> '{payload,status}' in ('Compensated', 'Abandoned', 'HandedOver') then
        -- a run that begins anew under its id must not take what was undone for done
        insert into amends.fences (saga, run_id, actor, reason)
        values (request ->> 'workflow_id', request ->> 'run_id', request ->> 'actor', 'undone')
        on conflict do nothing;
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

create view views.saga_steps as
select c.correlation_id as saga_id, c.workflow_id, c.step, c.kind, c.name, c.step_id, c.outcome,
       c.refusal ->> 'name' as refusal, c.refusal ->> 'message' as message,
       case when c.stream <> 'saga-' || c.correlation_id then c.stream end as stream,
       c.actor, c.attempt, c.pivot, c.undoes, undone.at as undone_at, c.started_at, c.recorded_at as ended_at,
       extract(epoch from c.recorded_at - c.started_at)::float8 as seconds, c.number
from amends.commands c
left join lateral (
    select min(u.recorded_at) as at from amends.commands u
    where u.correlation_id = c.correlation_id and u.undoes = c.step_id and u.outcome = 'done'
) undone on c.kind = 'step'
where c.kind is not null
  and not (c.outcome = 'begun' and exists (
      select from amends.commands a
      where a.correlation_id = c.correlation_id and a.step_id = c.step_id and a.outcome <> 'begun'));
comment on view views.saga_steps is 'One row for each step and each undo of a saga, from the command log.';
comment on column views.saga_steps.saga_id is 'The saga: the id of its outermost workflow.';
comment on column views.saga_steps.workflow_id is 'The workflow that took the step: the saga''s own, or a child of it.';
comment on column views.saga_steps.step is 'What it does, in words.';
comment on column views.saga_steps.kind is 'step, or undo of one.';
comment on column views.saga_steps.name is 'Name of the command or of the activity.';
comment on column views.saga_steps.step_id is 'Its identity: a repeat has the same and does not act again.';
comment on column views.saga_steps.outcome is 'done, refused, or begun: a call whose answer is not known.';
comment on column views.saga_steps.refusal is 'Why not: name of the rule.';
comment on column views.saga_steps.message is 'Why not, in words.';
comment on column views.saga_steps.stream is 'The stream that a command went to; null for calls.';
comment on column views.saga_steps.actor is 'On whose behalf.';
comment on column views.saga_steps.attempt is 'Which attempt got through, from 1.';
comment on column views.saga_steps.pivot is 'Whether the saga only goes forward after it.';
comment on column views.saga_steps.undoes is 'For an undo: the step that it takes back.';
comment on column views.saga_steps.undone_at is 'For a step: when it was taken back, or settled by hand.';
comment on column views.saga_steps.started_at is 'When work on it began.';
comment on column views.saga_steps.ended_at is 'When its outcome was recorded.';
comment on column views.saga_steps.seconds is 'From start to end.';
comment on column views.saga_steps.number is 'Order of recording within the log.';

create view views.saga_repairs as
select c.correlation_id as saga_id, c.workflow_id, c.payload ->> 'step' as step_id, c.payload ->> 'title' as step,
       replace(c.name, 'saga.', '') as action, c.payload ->> 'reason' as reason, c.payload ->> 'done' as done,
       c.payload -> 'input' as input, c.actor, c.recorded_at as at, c.number
from amends.commands c where c.name in ('saga.park', 'saga.retry', 'saga.skip', 'saga.resolve', 'saga.abandon');
comment on view views.saga_repairs is 'Everything that was parked, and what people did about it.';
comment on column views.saga_repairs.saga_id is 'The saga: the id of its outermost workflow.';
comment on column views.saga_repairs.workflow_id is 'The workflow that parked.';
comment on column views.saga_repairs.step_id is 'What was parked; null where it is about the whole saga.';
comment on column views.saga_repairs.step is 'The same in words.';
comment on column views.saga_repairs.action is 'park, then one of retry, skip, resolve and abandon.';
comment on column views.saga_repairs.reason is 'Why it was parked, or why somebody acted.';
comment on column views.saga_repairs.done is 'What was done by hand.';
comment on column views.saga_repairs.input is 'The changed input of a retry.';
comment on column views.saga_repairs.actor is 'Who.';
comment on column views.saga_repairs.at is 'When.';
comment on column views.saga_repairs.number is 'Order of recording within the log.';

create view views.saga_runs as
with closed as (
    select c.* from amends.commands c
    where c.name = 'saga.close' and not exists (
        select from amends.commands later
        where later.correlation_id = c.correlation_id and later.name = c.name
          and later.workflow_id = c.workflow_id and later.number > c.number)
), open as (
    select c.workflow_id, min(c.correlation_id) as correlation_id, min(c.started_at) as started_at,
           min(c.started_at) filter (where c.kind = 'undo') as turned_back_at,
           (array_agg(c.actor order by c.number))[1] as actor,
           count(*) filter (where c.kind = 'step' and c.outcome <> 'begun') as steps,
           count(*) filter (where c.kind = 'undo' and c.outcome <> 'begun') as undos
    from amends.commands c
    where c.kind is not null and not exists (
        select from amends.commands e
        where e.correlation_id = c.correlation_id and e.name = 'saga.close' and e.workflow_id = c.workflow_id)
    group by c.workflow_id
)
select c.workflow_id, c.correlation_id as saga_id, c.payload ->> 'process' as process, c.payload ->> 'status' as status,
       c.payload ->> 'reason' as reason, c.payload ->> 'message' as message, c.payload ->> 'failed_at' as failed_at,
       c.actor, (c.payload ->> 'started_at')::timestamptz as started_at,
       (c.payload ->> 'turned_back_at')::timestamptz as turned_back_at, c.recorded_at as ended_at,
       extract(epoch from c.recorded_at - (c.payload ->> 'started_at')::timestamptz)::float8 as seconds,
       extract(epoch from c.recorded_at - (c.payload ->> 'turned_back_at')::timestamptz)::float8 as undo_seconds,
       (c.payload ->> 'steps')::bigint as steps, (c.payload ->> 'undos')::bigint as undos
from closed c
union all
select o.workflow_id, o.correlation_id, null,
       case when exists (
                select from views.saga_repairs p where p.workflow_id = o.workflow_id and p.action = 'park'
                and not exists (select from views.saga_repairs r where r.workflow_id = p.workflow_id
                                and r.action <> 'park' and r.number > p.number
                                and (r.step_id = p.step_id or r.action = 'abandon'))) then 'NeedsAttention'
            when o.turned_back_at is not null
                 or exists (select from amends.fences f where f.saga = o.correlation_id) then 'Compensating'
            else 'Running' end,
       (select f.reason from amends.fences f where f.saga = o.correlation_id), null, null,
       o.actor, o.started_at, o.turned_back_at, null, null, null, o.steps, o.undos
from open o;
comment on view views.saga_runs is 'One row for each workflow that is a saga or a child of one, from the command log.';
comment on column views.saga_runs.workflow_id is 'The workflow.';
comment on column views.saga_runs.saga_id is 'The outermost workflow of the saga it belongs to.';
comment on column views.saga_runs.process is 'Name of the process; null while it runs.';
comment on column views.saga_runs.status is 'Running, Compensating, NeedsAttention; Completed, Compensated, Abandoned, HandedOver.';
comment on column views.saga_runs.reason is 'Short code of why it turned back: a refusal''s name, or of the cancellation.';
comment on column views.saga_runs.message is 'The same in words.';
comment on column views.saga_runs.failed_at is 'The step at which it turned back.';
comment on column views.saga_runs.actor is 'On whose behalf.';
comment on column views.saga_runs.started_at is 'When it started; while it runs, its first step.';
comment on column views.saga_runs.turned_back_at is 'When it began to undo.';
comment on column views.saga_runs.ended_at is 'When it ended.';
comment on column views.saga_runs.seconds is 'From start to end.';
comment on column views.saga_runs.undo_seconds is 'From turning back to the end.';
comment on column views.saga_runs.steps is 'Steps it has taken.';
comment on column views.saga_runs.undos is 'Undos it has done.';

comment on view views.projection_status is 'How far each projection and each process manager has read the event log.';
comment on column views.projection_status.projection is 'Name of the projection or process manager.';

grant select, insert, update on amends.fences to amends_writer;
grant execute on function amends.fence to amends_writer;
grant select on views.saga_steps, views.saga_repairs, views.saga_runs to amends_reader, amends_writer;
revoke execute on function amends.fence from public;
