-- Clients seal what is personal before it leaves them, so they need a role of their own, besides the reader's.
do $$
declare
    may_act_as constant text := case when current_setting('server_version_num')::integer >= 160000 then 'set' else 'member' end;
begin
    begin
        -- an administrator may have made it, for an owner who may make none
        if not exists (select from pg_roles where rolname = 'amends_client') then
            create role amends_client nologin;
        end if;
    exception when duplicate_object or unique_violation then
        null; -- roles belong to the whole cluster: another database's migration was first
    end;
    if not pg_has_role(current_user, 'amends_client', may_act_as) then
        begin
            grant amends_client to current_user;
        exception
            when unique_violation then
                null; -- granted by a migration of another database in this very moment
            when insufficient_privilege then
                raise exception 'the role amends_client is there, but % may not act as it; have its owner run: grant amends_client to %',
                    current_user, current_user using errcode = 'insufficient_privilege';
        end;
    end if;
end
$$;

create table amends.personal_keys (
    subject text primary key,
    key bytea check (octet_length(key) = 64),
    made_at timestamptz not null default clock_timestamp(),
    destroyed_at timestamptz,
    destroyed_by text,
    check ((key is null) = (destroyed_at is not null))
);
comment on table amends.personal_keys is 'Keys that seal personal data, one a person; a destroyed one is kept as a tombstone.';

-- Keys of these subjects, made here where there are none, so that nobody plants one: each of ten random uuids, which hold
-- 1,220 random bits. A destroyed key comes back as null, for good.
create function amends.keys_of(subjects text[])
returns table (subject text, key bytea) language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    -- what is there already costs no write, so that a repeat holds no feed back
    if exists (select from unnest(subjects) as w (subject)
               where not exists (select from amends.personal_keys k where k.subject = w.subject)) then
        insert into amends.personal_keys (subject, key)
        select w.subject, sha512((select string_agg(uuid_send(gen_random_uuid()), '' order by n)
                                  from generate_series(1, 10) as n where w.subject is not null))
        from unnest(subjects) as w (subject)
        where not exists (select from amends.personal_keys k where k.subject = w.subject)
        order by w.subject -- so that two who ask for the same ones wait for each other in the same order
        on conflict do nothing;
    end if;
    return query select k.subject, k.key from amends.personal_keys k where k.subject = any(subjects);
end
$$;
comment on function amends.keys_of is 'Keys of subjects, made where there are none; null for who is forgotten.';

-- Destroys a key, once: the first time stands. A subject that never had one is kept from ever getting one.
create function amends.destroy_key(which text, on_behalf_of text)
returns timestamptz language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    insert into amends.personal_keys (subject, key, destroyed_at, destroyed_by)
    values (which, null, clock_timestamp(), on_behalf_of)
    on conflict (subject) do update
        set key = null, destroyed_at = excluded.destroyed_at, destroyed_by = excluded.destroyed_by
        where personal_keys.destroyed_at is null;
    return (select k.destroyed_at from amends.personal_keys k where k.subject = which);
end
$$;
comment on function amends.destroy_key is 'Destroys the key of a subject, so that nobody can read what it sealed.';

grant usage on schema amends to amends_client;
grant select on amends.personal_keys to amends_writer, amends_projector;
revoke execute on function amends.keys_of, amends.destroy_key from public;
grant execute on function amends.keys_of to amends_writer, amends_client;
grant execute on function amends.destroy_key to amends_writer;
