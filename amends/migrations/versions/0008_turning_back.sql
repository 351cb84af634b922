-- Lets a saga turn back, or tells it that it has passed its pivot in a task that was lost and must go forward: true, and
-- nothing new of it is done any more, by whatever worker still has an old task of it; false when the pivot is on record.
create function amends.turn_back(id text, run text, who text, why text) returns boolean language plpgsql as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('saga:' || id, 0));
    -- one that has only begun is a call, and the saga itself has given up learning what became of it
    if exists (select from amends.commands c where c.correlation_id = id and c.pivot and c.outcome = 'done') then
        return false;
    end if;
    -- a later run takes over from an earlier one that had turned back; what was ended from outside stays so
    insert into amends.fences (saga, run_id, actor, reason) values (id, run, who, why)
    on conflict (saga) do update set run_id = excluded.run_id where fences.run_id is not null;
    return true;
end
$$;
comment on function amends.turn_back is 'Lets a saga turn back: true; false when it has passed its pivot.';

-- What was done for one saga is asked for by its steps.
create index steps_of_sagas on amends.commands (correlation_id, step_id) where step_id is not null;
create index undone_steps on amends.commands (correlation_id, undoes) where undoes is not null;

-- A step is refused once its saga has turned back, in its own run too, unless it is known: then a task that was lost is
-- done again, up to its end. Whatever else append does by now stays as it is.
do $migration$
declare
    body text := pg_get_functiondef('amends.append'::regproc);
    was text;
begin
    foreach was in array array[
$declared$    sagas text[];
$declared$,
$guard$        if exists (select from amends.fences f
                   where f.saga = any (sagas || (request ->> 'correlation_id'))
                     and f.run_id is distinct from (request ->> 'run_id')) then
            raise exception 'the saga of step % has been ended', request ->> 'command_id' using errcode = 'AM003';
        end if;
    end if;

    select * into known from amends.commands c where c.command_id = request ->> 'command_id';
    if found then
$guard$] loop
        if position(was in body) = 0 then
            raise exception 'amends.append is not the function that this migration changes';
        end if;
    end loop;
    body := replace(body, $declared$    sagas text[];
$declared$, $declared$    sagas text[];
    repeated boolean;
$declared$);
    body := replace(body, was, $guard$    end if;

    select * into known from amends.commands c where c.command_id = request ->> 'command_id';
    repeated := found;
    if (request ->> 'guarded')::boolean and exists (
        select from amends.fences f
        where f.saga = any (sagas || (request ->> 'correlation_id'))
          and (f.run_id is distinct from (request ->> 'run_id')
               or not repeated and request ->> 'name' <> 'saga.close')) then
        raise exception 'the saga of step % has been ended', request ->> 'command_id' using errcode = 'AM003';
    end if;

    if repeated then
$guard$);
    execute body;
end
$migration$;

grant execute on function amends.turn_back to amends_writer;
revoke execute on function amends.turn_back from public;
