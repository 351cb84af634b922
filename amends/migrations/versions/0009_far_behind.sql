-- Whoever asks for at most so many events since, and is further behind, is told so and gets none: all that has happened to
-- a busy thing since yesterday would come as one document. It loads the thing anew, from its snapshot. Code from before
-- this migration does not ask, and gets them all. Whatever else append does stays as it is.
do $migration$
declare
    body text := pg_get_functiondef('amends.append'::regproc);
    was constant text := $part$e.version > expected and e.version <= at_version;
        return;$part$;
begin
    if position(was in body) = 0 then
        raise exception 'amends.append is not the function that this migration changes';
    end if;
    execute replace(body, was, $part$e.version > expected and e.version <= at_version
          and at_version - expected <= coalesce((request ->> 'at_most')::integer, at_version);
        return;$part$);
end
$migration$;
