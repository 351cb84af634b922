-- A command that frees nothing, as most do, must not look for claims to free: joined with an empty list, they were all
-- read, once their number had been counted while they were few. Whatever else append does by now stays as it is.
do $migration$
declare
    was constant text := $was$
    delete from amends.claims c
    using jsonb_to_recordset(request -> 'frees') as f (scope text, hash text)
    where c.scope = f.scope and c.hash = decode(f.hash, 'hex') and c.stream = target;
$was$;
    becomes constant text := $becomes$
    declare
        freed record;
    begin
        for freed in select f.* from jsonb_to_recordset(request -> 'frees') as f (scope text, hash text) loop
            delete from amends.claims c
            where c.scope = freed.scope and c.hash = decode(freed.hash, 'hex') and c.stream = target;
        end loop;
    end;
$becomes$;
begin
    execute replace(pg_get_functiondef('amends.append'::regproc), was, becomes);
end
$migration$;

-- Appends what many commands led to, in their order and in one transaction; each gets an answer of its own, with the
-- status of amends.append or: taken (a claimed value is; its index in detail), reused (the command id stands for
-- another command), again (to be repeated in a new transaction). A subtransaction each costs next to nothing, measured.
create function amends.append_many(requests jsonb) returns jsonb language plpgsql as $$
declare
    request jsonb;
    done record;
    number text;
    answers jsonb[] := '{}';
begin
    for request in select value from jsonb_array_elements(requests) with ordinality order by ordinality loop
        begin
            select * into done from amends.append(request);
            answers := answers || jsonb_build_object('status', done.status, 'xid', done.at_xid, 'position', done.at_position);
        exception
            when sqlstate 'AM001' then
                get stacked diagnostics number = pg_exception_detail;
                answers := answers || jsonb_build_object('status', 'taken', 'claim', number::integer);
            when sqlstate 'AM002' then
                answers := answers || jsonb_build_object('status', 'reused');
            when sqlstate '40001' then
                answers := answers || jsonb_build_object('status', 'again');
        end;
    end loop;
    return to_jsonb(answers);
end
$$;
comment on function amends.append_many is 'Appends what many commands led to, each once, in one transaction.';

-- What has been taken over from other systems: one row a record, as a fingerprint, for it may hold personal data.
create table amends.import_rows (
    source text not null,
    kind text not null,
    key text not null,
    fingerprint bytea not null,
    revision integer not null,
    run uuid not null,
    line bigint not null,
    imported_at timestamptz not null default clock_timestamp(),
    primary key (source, kind, key)
);
comment on column amends.import_rows.revision is 'How often its content has been taken over: 1, and 1 more a change.';
comment on column amends.import_rows.run is 'The import that did so last.';

-- How far the tables of other systems have been followed. Moved in the transaction that takes the rows over.
create table amends.watermarks (
    source text not null,
    name text not null,
    watermark text not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (source, name)
) with (fillfactor = 10);

revoke execute on function amends.append_many from public;
grant execute on function amends.append_many to amends_writer;
grant select, insert, update on amends.import_rows, amends.watermarks to amends_writer;
