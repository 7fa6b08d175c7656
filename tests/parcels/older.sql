-- Version 1 of a table that only tests have: what an older release had made.
create table if not exists waemitter.parcels (
  id   bigint generated always as identity primary key,
  note text
);

create or replace function waemitter.parcel_label(id bigint) returns text language sql stable as $$
  select coalesce(p.note, 'none') from waemitter.parcels p where p.id = parcel_label.id
$$;

