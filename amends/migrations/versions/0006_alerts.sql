-- What is wrong with a projection names the keys that are parked, how long they have been, and how often they failed.
create or replace view views.projection_status as
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
                when s.dead_letters > 0 then (
                    select format('parked: %s events of %s keys, since %s UTC; the first: %s; see views.dead_letters',
                                  count(*), count(distinct d.key),
                                  to_char(min(d.parked_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), (
                        select string_agg(format('key %s (%s, attempts: %s)', f.key, f.event, f.attempts), ', '
                                          order by f.xid, f.position)
                        from (select o.* from amends.dead_letters o
                              where o.projection = s.projection and o.version = s.version
                                and o.generation = s.generation and o.state <> 'skipped' and o.error is not null
                              order by o.xid, o.position limit 3) f))
                    from amends.dead_letters d
                    where d.projection = s.projection and d.version = s.version and d.generation = s.generation
                      and d.state <> 'skipped')
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

comment on column views.projection_log.action is 'build, differs, swap, cancel, rollback, drop, throttle, pause, resume, retry, skip or alert.';
comment on column views.projection_log.reason is 'Why; of an alert, what is wrong.';
comment on view views.projection_log is 'What was done to projections: builds, swaps, rollbacks, pauses, retries, by whom and why; and what a person should see to.';

-- What a restored log tells of builds elsewhere is generation 0: known to fail, or skipped, but parked nowhere here.
create or replace view views.dead_letters as
select d.projection, d.version, d.generation, d.key, d.xid::text::bigint as xid, d.position, d.stream, d.event, d.error,
       d.attempts, d.state, d.actor, d.reason, d.parked_at, d.settled_at
from amends.dead_letters d where d.generation > 0;
