-- Where a search path does not name it, the schema of temporary tables comes first: whoever may read could put a view of
-- their own in the place of one that this function asks as the owner, and have the owner run what is in it.
alter function amends.oldest_writer set search_path = pg_catalog, pg_temp;
