-- Sagas are asked for by their workflow; children that were ended from outside show how their saga ended.
create index commands_of_workflows on amends.commands (workflow_id, number) where kind is not null;
create index closed_workflows on amends.commands (workflow_id) where name = 'saga.close';
create index repairs_of_workflows on amends.commands (workflow_id, number)
    where name in ('saga.park', 'saga.retry', 'saga.skip', 'saga.resolve', 'saga.abandon');

create or replace view views.saga_runs as
with closed as (
    select c.* from amends.commands c
    where c.name = 'saga.close' and not exists (
        select from amends.commands later
        where later.correlation_id = c.correlation_id and later.name = c.name
          and later.workflow_id = c.workflow_id and later.number > c.number)
), open as (
    select c.workflow_id, c.correlation_id, min(c.started_at) as started_at,
           min(c.started_at) filter (where c.kind = 'undo') as turned_back_at,
           (array_agg(c.actor order by c.number))[1] as actor,
           count(*) filter (where c.kind = 'step' and c.outcome <> 'begun') as steps,
           count(*) filter (where c.kind = 'undo' and c.outcome <> 'begun') as undos
    from amends.commands c
    where c.kind is not null and not exists (
        select from amends.commands e
        where e.correlation_id = c.correlation_id and e.name = 'saga.close' and e.workflow_id = c.workflow_id)
    group by c.workflow_id, c.correlation_id
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
-- a child that never closed, for it was ended from outside, ends with its saga
select o.workflow_id, o.correlation_id, null,
       case when saga.status is not null then saga.status
            when exists (
                select from views.saga_repairs p where p.workflow_id = o.workflow_id and p.action = 'park'
                and not exists (select from views.saga_repairs r where r.workflow_id = p.workflow_id
                                and r.action <> 'park' and r.number > p.number
                                and (r.step_id = p.step_id or r.action = 'abandon'))) then 'NeedsAttention'
            when o.turned_back_at is not null
                 or exists (select from amends.fences f where f.saga in (o.correlation_id, o.workflow_id)) then 'Compensating'
            else 'Running' end,
       coalesce(saga.reason, (select f.reason from amends.fences f where f.saga = o.correlation_id)), null, null,
       o.actor, o.started_at, o.turned_back_at, saga.ended_at,
       extract(epoch from saga.ended_at - o.started_at)::float8,
       extract(epoch from saga.ended_at - o.turned_back_at)::float8, o.steps, o.undos
from open o
left join lateral (
    select c.payload ->> 'status' as status, c.payload ->> 'reason' as reason, c.recorded_at as ended_at
    from amends.commands c
    where c.correlation_id = o.correlation_id and c.name = 'saga.close' and c.workflow_id = o.correlation_id
    order by c.number desc limit 1
) saga on true;
