drop view views.projection_status;

-- How far each generation of a read model has come, partition by partition; a process manager has one row.
-- A follower moves its row only while its role is what it believes and nobody has paused it: that fences it.
alter table amends.checkpoints
    drop constraint checkpoints_pkey,
    add column generation integer not null default 1,
    add column partition integer not null default 0,
    add column role text not null default 'kept' check (role in ('served', 'building', 'kept')),
    add column dead_letters bigint not null default 0,
    add column paused_at timestamptz,
    add column paused_by text,
    add column pause_reason text,
    add column stopped boolean not null default false,
    add column last_error text,
    add column failed_at timestamptz,
    add column throttle double precision check (throttle > 0),
    add column beat_at timestamptz,
    add column rate double precision,
    add primary key (projection, version, generation, partition);
create unique index checkpoints_served on amends.checkpoints (projection, partition) where role = 'served';
create unique index checkpoints_building on amends.checkpoints (projection, partition) where role = 'building';

-- What a generation consists of, so that it can be shown again, or dropped, by code that does not know it any more.
create table amends.generations (
    projection text not null,
    version integer not null,
    generation integer not null,
    partitions integer not null,
    made_with jsonb not null default '{}',
    tables jsonb not null,
    views jsonb not null,
    report jsonb,
    begun_at timestamptz not null default clock_timestamp(),
    built_at timestamptz,
    served_at timestamptz,
    primary key (projection, version, generation)
);

-- Events that could not be applied, and those of the same key that wait behind them.
create table amends.dead_letters (
    projection text not null,
    version integer not null,
    generation integer not null,
    partition integer not null,
    key text not null,
    xid xid8 not null,
    position bigint not null,
    stream text not null,
    event text not null,
    error text,
    attempts integer not null default 0,
    state text not null default 'parked' check (state in ('parked', 'retrying', 'skipped')),
    actor text,
    reason text,
    parked_at timestamptz not null default clock_timestamp(),
    settled_at timestamptz,
    primary key (projection, version, generation, xid, position)
);
create index dead_letters_open on amends.dead_letters (projection, version, generation, key) where state <> 'skipped';

-- What was done to projections, by whom and why.
create table amends.projection_log (
    number bigint primary key generated always as identity,
    projection text not null,
    version integer,
    generation integer,
    action text not null,
    actor text not null,
    reason text not null,
    detail jsonb,
    at timestamptz not null default clock_timestamp()
);
create index projection_log_by_projection on amends.projection_log (projection, number);

create function amends.said_by(actor text, reason text) returns void language plpgsql as $$
begin
    if coalesce(trim(actor), '') = '' then
        raise exception 'actor: say who you are' using errcode = 'AM003';
    end if;
    if coalesce(trim(reason), '') = '' then
        raise exception 'reason: say why' using errcode = 'AM003';
    end if;
end
$$;
comment on function amends.said_by is 'Refuses what nobody signs for, by AM003.';

-- All that follows wakes the projections by hand: a notification that is no position makes them look.
create function amends.retry_dead_letters(projection text, key text, actor text, reason text) returns integer
language plpgsql as $$
declare
    found_letters integer;
    wanted constant text := retry_dead_letters.projection;
    of_key constant text := retry_dead_letters.key;
begin
    perform amends.said_by(actor, reason);
    -- no event may be parked behind these while we look
    perform from amends.checkpoints c where c.projection = wanted and c.role <> 'kept'
        order by c.version, c.generation, c.partition for update;
    update amends.dead_letters d set state = 'retrying', actor = retry_dead_letters.actor, reason = retry_dead_letters.reason
    from amends.checkpoints c
    where d.projection = wanted and d.key = of_key and d.state in ('parked', 'retrying')
      and c.projection = d.projection and c.version = d.version and c.generation = d.generation
      and c.partition = d.partition and c.role <> 'kept';
    get diagnostics found_letters = row_count;
    if found_letters = 0 then
        raise exception 'key: no events of key % are parked in projection %; see views.dead_letters', of_key, wanted
            using errcode = 'AM004';
    end if;
    insert into amends.projection_log (projection, action, actor, reason, detail)
    values (wanted, 'retry', actor, reason, jsonb_build_object('key', of_key, 'events', found_letters));
    perform pg_notify('amends_events', 'retry ' || wanted);
    return found_letters;
end
$$;
comment on function amends.retry_dead_letters is 'Has the events of a key that are parked applied once more, in order; returns how many.';

create function amends.skip_dead_letter(projection text, at_position bigint, actor text, reason text) returns integer
language plpgsql as $$
declare
    skipped integer;
    wanted constant text := skip_dead_letter.projection;
begin
    perform amends.said_by(actor, reason);
    perform from amends.checkpoints c where c.projection = wanted and c.role <> 'kept'
        order by c.version, c.generation, c.partition for update;
    with gone as (
        update amends.dead_letters d
        set state = 'skipped', actor = skip_dead_letter.actor, reason = skip_dead_letter.reason, settled_at = clock_timestamp()
        from amends.checkpoints c
        where d.projection = wanted and d.position = at_position and d.state in ('parked', 'retrying')
          and c.projection = d.projection and c.version = d.version and c.generation = d.generation
          and c.partition = d.partition and c.role <> 'kept'
        returning d.*
    ), counted as (
        update amends.checkpoints c set dead_letters = c.dead_letters - 1 from gone g
        where c.projection = g.projection and c.version = g.version and c.generation = g.generation
          and c.partition = g.partition
    ), next as (
        -- what waited behind it is to be applied now
        update amends.dead_letters d set state = 'retrying' from gone g
        where d.projection = g.projection and d.version = g.version and d.generation = g.generation and d.key = g.key
          and d.state = 'parked' and (d.xid, d.position) > (g.xid, g.position)
          and not exists (
              select from amends.dead_letters before
              where before.projection = g.projection and before.version = g.version
                and before.generation = g.generation and before.key = g.key and before.state <> 'skipped'
                and (before.xid, before.position) < (g.xid, g.position))
    )
    select count(*) into skipped from gone;
    if skipped = 0 then
        raise exception 'position: no event at % is parked in projection %; see views.dead_letters', at_position, wanted
            using errcode = 'AM004';
    end if;
    insert into amends.projection_log (projection, action, actor, reason, detail)
    values (wanted, 'skip', actor, reason, jsonb_build_object('position', at_position));
    perform pg_notify('amends_events', 'skip ' || wanted);
    return skipped;
end
$$;
comment on function amends.skip_dead_letter is 'Leaves a parked event out for good, and has those behind it applied; the record stays.';

create function amends.throttle_build(projection text, events_per_second double precision, actor text, reason text)
returns void language plpgsql as $$
begin
    perform amends.said_by(actor, reason);
    if events_per_second <= 0 then
        raise exception 'throttle: events a second are more than 0, or null for no limit' using errcode = 'AM003';
    end if;
    update amends.checkpoints c set throttle = events_per_second
    where c.projection = throttle_build.projection and c.role = 'building';
    if not found then
        raise exception 'projection: no build of % is under way; see views.projection_status', projection
            using errcode = 'AM004';
    end if;
    insert into amends.projection_log (projection, action, actor, reason, detail)
    values (projection, 'throttle', actor, reason, jsonb_build_object('events_per_second', events_per_second));
end
$$;
comment on function amends.throttle_build is 'Changes how many events a second a build may take; null takes the limit away.';

create function amends.pause_projection(projection text, actor text, reason text) returns void language plpgsql as $$
begin
    perform amends.said_by(actor, reason);
    -- while a swap or a rollback runs, wait for what it makes of them; served first, as those lock them
    perform from amends.checkpoints c where c.projection = pause_projection.projection
        order by c.role desc, c.version, c.generation, c.partition for update;
    update amends.checkpoints c
    set paused_at = clock_timestamp(), paused_by = pause_projection.actor, pause_reason = pause_projection.reason
    where c.projection = pause_projection.projection and c.role = 'served';
    if not found then
        raise exception 'projection: there is no projection % ; see views.projection_status', projection using errcode = 'AM004';
    end if;
    insert into amends.projection_log (projection, action, actor, reason) values (projection, 'pause', actor, reason);
    perform pg_notify('amends_events', 'pause ' || projection);
end
$$;
comment on function amends.pause_projection is 'Stops a projection or process manager until it is resumed, whatever is restarted meanwhile.';

create function amends.resume_projection(projection text, actor text, reason text) returns void language plpgsql as $$
begin
    perform amends.said_by(actor, reason);
    -- while a swap or a rollback runs, wait for what it makes of them; served first, as those lock them
    perform from amends.checkpoints c where c.projection = resume_projection.projection
        order by c.role desc, c.version, c.generation, c.partition for update;
    update amends.checkpoints c set paused_at = null, paused_by = null, pause_reason = null
    where c.projection = resume_projection.projection and c.paused_at is not null;
    if not found then
        raise exception 'projection: % is not paused; see views.projection_status', projection using errcode = 'AM004';
    end if;
    insert into amends.projection_log (projection, action, actor, reason) values (projection, 'resume', actor, reason);
    perform pg_notify('amends_events', 'resume ' || projection);
end
$$;
comment on function amends.resume_projection is 'Lets a paused projection or process manager go on.';

-- Prepared transactions hold the feed back too, and are in no session.
create or replace function amends.oldest_writer(out pid integer, out application text, out seconds float8)
returns setof record language sql security definer set search_path = pg_catalog as $$
    select w.pid, w.application, extract(epoch from clock_timestamp() - w.since)::float8
    from (
        select a.pid, a.application_name as application, a.xact_start as since, a.backend_xid as xid
        from pg_stat_activity a where a.backend_xid is not null and a.pid <> pg_backend_pid()
        union all
        select null, 'prepared transaction ' || p.gid, p.prepared, p.transaction from pg_prepared_xacts p
    ) w
    order by age(w.xid) desc limit 1
$$;

create view views.projection_status as
with held as (
    -- how long a session has been at it only they may see who may read all statistics: so look at the events themselves
    select format('the feed stands still: process %s (%s) has a transaction open%s', coalesce(o.pid::text, '?'),
                  coalesce(o.application, 'unknown'), ' for ' || round(o.seconds::numeric, 0) || ' seconds') as told
    from (values (1)) as one left join amends.oldest_writer() o on true
    where o.seconds > 10 or (
        select e.recorded_at < clock_timestamp() - interval '10 seconds' from amends.events e
        where e.xid >= pg_snapshot_xmin(pg_current_snapshot()) order by e.xid, e.position limit 1)
), slowest as (
    select c.projection, c.version, c.generation, min(c.role) as role, count(*)::integer as partitions,
           (array_agg(c.xid order by c.xid, c.position))[1] as xid,
           (array_agg(c.position order by c.xid, c.position))[1] as position,
           sum(c.events)::bigint as events, sum(c.dead_letters)::bigint as dead_letters,
           min(c.paused_at) as paused_at, min(c.paused_by) as paused_by, min(c.pause_reason) as pause_reason,
           bool_or(c.stopped) as stopped, (array_agg(c.last_error order by c.failed_at desc nulls last))[1] as last_error,
           max(c.failed_at) as failed_at, min(coalesce(c.beat_at, '-infinity')) as beat_at,
           sum(c.rate) as rate, max(c.updated_at) as updated_at
    from amends.checkpoints c group by c.projection, c.version, c.generation
), judged as (
    select s.*, s.role = 'served' as served,
           case when s.role = 'kept' then 'kept'
                when s.stopped then 'stopped'
                when s.paused_at is not null then 'paused'
                when s.role = 'building' then 'rebuilding'
                when exists (select from amends.checkpoints b
                             where b.projection = s.projection and b.role = 'building' and b.version <> s.version)
                    then 'rebuilding'
                else 'live' end as state,
           case when s.role = 'kept' then null
                when s.stopped then 'stopped: ' || coalesce(s.last_error, 'see the worker''s log')
                when s.paused_at is not null then format('paused by %s: %s', s.paused_by, s.pause_reason)
                when s.role = 'building' and exists (
                    select from amends.generations g
                    where g.projection = s.projection and g.version = s.version and g.generation = s.generation
                      and g.report is not null)
                    then 'its rows differ from what is served, and it waits for somebody to look: see views.projection_log'
                when s.beat_at = '-infinity' then 'nobody has followed it yet: does a worker of its version run?'
                when s.beat_at < clock_timestamp() - interval '15 seconds' then
                    format('nobody follows it: the last sign of life was %s seconds ago',
                           round(extract(epoch from clock_timestamp() - s.beat_at)))
                when exists (select from held) then (select h.told from held h)
                when s.dead_letters > 0 then format('%s events are parked: see views.dead_letters', s.dead_letters)
           end as problem
    from slowest s
)
select j.projection, j.version, j.generation, j.served, j.state, j.problem is null as healthy, j.problem,
       j.xid::text::bigint as xid, j.position, j.events,
       (select count(*) from (select from amends.events e where (e.xid, e.position) > (j.xid, j.position)
                              order by e.xid, e.position limit 10000) as unread) as lag_events,
       coalesce((select greatest(extract(epoch from clock_timestamp() - e.recorded_at), 0)::float8 from amends.events e
                 where (e.xid, e.position) > (j.xid, j.position) order by e.xid, e.position limit 1), 0) as lag_seconds,
       j.rate, j.last_error, j.failed_at, j.dead_letters, j.updated_at
from judged j;
comment on view views.projection_status is 'How far each projection and each process manager has read the event log, and what is wrong with it.';
comment on column views.projection_status.projection is 'Name of the projection or process manager.';
comment on column views.projection_status.version is 'Version of its read model.';
comment on column views.projection_status.generation is 'Which build of that version: each rebuild makes another.';
comment on column views.projection_status.served is 'Whether it is what the views show.';
comment on column views.projection_status.state is 'live, rebuilding, paused or stopped; kept: was shown before, for a rollback.';
comment on column views.projection_status.healthy is 'Whether it is followed and nothing is wrong; what it shows may lag behind all the same.';
comment on column views.projection_status.problem is 'What is wrong, in words; null when healthy.';
comment on column views.projection_status.xid is 'Transaction part of its position in the feed; of the slowest partition.';
comment on column views.projection_status.position is 'Number part of its position in the feed; of the slowest partition.';
comment on column views.projection_status.events is 'Events it has read so far; every partition reads all.';
comment on column views.projection_status.lag_events is 'Events it has not read yet; counted up to 10000.';
comment on column views.projection_status.lag_seconds is 'Age of the oldest event that it has not read yet; 0 when there is none.';
comment on column views.projection_status.rate is 'Events a second, of late.';
comment on column views.projection_status.last_error is 'What stopped it last.';
comment on column views.projection_status.failed_at is 'When that was.';
comment on column views.projection_status.dead_letters is 'Parked events: those that fail, and those of the same key that wait behind them.';
comment on column views.projection_status.updated_at is 'When it last moved.';

create view views.dead_letters as
select d.projection, d.version, d.generation, d.key, d.xid::text::bigint as xid, d.position, d.stream, d.event, d.error,
       d.attempts, d.state, d.actor, d.reason, d.parked_at, d.settled_at
from amends.dead_letters d;
comment on view views.dead_letters is 'Events that a projection could not apply, and those of the same key that wait behind them.';
comment on column views.dead_letters.projection is 'Name of the projection.';
comment on column views.dead_letters.version is 'Version of its read model.';
comment on column views.dead_letters.generation is 'Which build of that version.';
comment on column views.dead_letters.key is 'Whose rows the event touches; no event of this key is applied meanwhile.';
comment on column views.dead_letters.xid is 'Transaction part of the event''s position in the feed.';
comment on column views.dead_letters.position is 'Number of the event in the log.';
comment on column views.dead_letters.stream is 'The stream it belongs to.';
comment on column views.dead_letters.event is 'Its name.';
comment on column views.dead_letters.error is 'Why it can''t be applied; null for an event that only waits.';
comment on column views.dead_letters.attempts is 'How often it has failed.';
comment on column views.dead_letters.state is 'parked, retrying, or skipped for good.';
comment on column views.dead_letters.actor is 'Who wanted it retried or skipped.';
comment on column views.dead_letters.reason is 'Why.';
comment on column views.dead_letters.parked_at is 'When it was parked.';
comment on column views.dead_letters.settled_at is 'When it was skipped.';

create view views.projection_log as
select l.number, l.projection, l.version, l.generation, l.action, l.actor, l.reason, l.detail, l.at from amends.projection_log l;
comment on view views.projection_log is 'What was done to projections: builds, swaps, rollbacks, pauses, retries, by whom and why.';
comment on column views.projection_log.number is 'Order of recording.';
comment on column views.projection_log.projection is 'Name of the projection or process manager.';
comment on column views.projection_log.version is 'Version of the read model, where it is about one.';
comment on column views.projection_log.generation is 'Which build of that version.';
comment on column views.projection_log.action is 'build, differs, swap, cancel, rollback, drop, throttle, pause, resume, retry or skip.';
comment on column views.projection_log.actor is 'Who.';
comment on column views.projection_log.reason is 'Why.';
comment on column views.projection_log.detail is 'More about it: counts and differences of a build, the key or position of what was parked.';
comment on column views.projection_log.at is 'When.';

grant select, insert, update on amends.generations to amends_projector;
grant select, insert, update, delete on amends.dead_letters to amends_projector;
grant select, insert on amends.projection_log to amends_projector;
grant select on views.projection_status, views.dead_letters, views.projection_log to amends_reader, amends_projector;
revoke execute on function amends.said_by, amends.retry_dead_letters, amends.skip_dead_letter, amends.throttle_build,
    amends.pause_projection, amends.resume_projection from public;
grant execute on function amends.said_by, amends.retry_dead_letters, amends.skip_dead_letter, amends.throttle_build,
    amends.pause_projection, amends.resume_projection, amends.oldest_writer to amends_projector;
