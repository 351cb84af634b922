-- Stands in for the projection engine's own views of the same names and columns.
drop view views.projection_status;
create view views.projection_status as
select c.projection, c.version, 1 as generation,
       not exists (select from amends.checkpoints n where n.projection = c.projection
                   and (n.xid, n.position, n.version) > (c.xid, c.position, c.version)) as served, 'live'::text as state, true as healthy,
       null::text as problem, c.xid::text::bigint as xid, c.position, c.events,
       (select count(*) from amends.events e where (e.xid, e.position) > (c.xid, c.position)) as lag_events,
       extract(epoch from (select clock_timestamp() - e.recorded_at from amends.events e
           where (e.xid, e.position) > (c.xid, c.position) order by e.xid, e.position limit 1))::float8 as lag_seconds,
       null::float8 as rate, null::text as last_error, null::timestamptz as failed_at, 0::bigint as dead_letters,
       c.updated_at
from amends.checkpoints c;
comment on view views.projection_status is 'How far each projection and each process manager has read the event log.';
comment on column views.projection_status.projection is 'Name of the projection or process manager.';
comment on column views.projection_status.version is 'Version of its read model.';
comment on column views.projection_status.generation is 'Which build of that version.';
comment on column views.projection_status.served is 'Whether the views show this one.';
comment on column views.projection_status.state is 'live, rebuilding, paused or stopped.';
comment on column views.projection_status.healthy is 'Whether all is well.';
comment on column views.projection_status.problem is 'What is not.';
comment on column views.projection_status.xid is 'Transaction part of its position in the feed.';
comment on column views.projection_status.position is 'Number part of its position in the feed.';
comment on column views.projection_status.events is 'Events it has read so far.';
comment on column views.projection_status.lag_events is 'Events it has still to read.';
comment on column views.projection_status.lag_seconds is 'Age of the first of them.';
comment on column views.projection_status.rate is 'Events a second.';
comment on column views.projection_status.last_error is 'What went wrong last.';
comment on column views.projection_status.failed_at is 'When.';
comment on column views.projection_status.dead_letters is 'Events that are parked.';
comment on column views.projection_status.updated_at is 'When it last moved.';

create view views.dead_letters as
select null::text as projection, 1 as version, 1 as generation, null::text as key, 0::bigint as xid,
       0::bigint as position, null::text as stream, null::text as event, null::text as error, 0 as attempts,
       null::text as state, null::text as actor, null::text as reason, null::timestamptz as parked_at,
       null::timestamptz as settled_at
where false;
comment on view views.dead_letters is 'Events that could not be applied, and those of the same key behind them.';
comment on column views.dead_letters.projection is 'Name of the projection.';
comment on column views.dead_letters.version is 'Version of its read model.';
comment on column views.dead_letters.generation is 'Which build of that version.';
comment on column views.dead_letters.key is 'Whose rows the event touches.';
comment on column views.dead_letters.xid is 'Transaction part of the event''s position in the feed.';
comment on column views.dead_letters.position is 'Number part of the event''s position in the feed.';
comment on column views.dead_letters.stream is 'The event''s stream.';
comment on column views.dead_letters.event is 'The event''s name.';
comment on column views.dead_letters.error is 'Why it could not be applied; null when it only waits behind another one.';
comment on column views.dead_letters.attempts is 'How often it was tried.';
comment on column views.dead_letters.state is 'parked, retrying or skipped.';
comment on column views.dead_letters.actor is 'Who settled it.';
comment on column views.dead_letters.reason is 'Why.';
comment on column views.dead_letters.parked_at is 'When it was parked.';
comment on column views.dead_letters.settled_at is 'When it was settled.';
grant select on views.projection_status, views.dead_letters to amends_reader;
