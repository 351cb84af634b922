-- Which log this is, so that a place in another one, or in one that was restored since, is not taken for a place here.
-- A restored log has the same events in other transactions. Only what the feed shows counts: before that, an event may
-- still come that is earlier. A log without events has no identity, and no places either.
create or replace view views.feed_status as
select (select max(e.position) from amends.events e
        where e.xid = (select max(l.xid) from amends.events l)) as head_position,
       (select max(l.xid)::text::bigint from amends.events l) as head_xid,
       pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon_xid,
       oldest.pid as oldest_pid,
       oldest.application as oldest_application,
       oldest.seconds as oldest_seconds,
       (select left(md5(concat_ws('/', first.event_id, first.xid, first.position)), 16)
        from amends.events first where first.xid < pg_snapshot_xmin(pg_current_snapshot())
        order by first.xid, first.position limit 1) as log_id
from (values (1)) as one left join amends.oldest_writer() oldest on true;
comment on column views.feed_status.log_id is
    'Tells this log from any other, and from what it is restored as elsewhere; null while it is empty.';

-- Tools that can't read a type are told what it is.
comment on column views.projection_log.detail is
    'More about it, as JSON: counts and differences of a build, the key or position of what was parked.';
comment on column views.saga_repairs.input is 'The changed input of a retry, as JSON.';
