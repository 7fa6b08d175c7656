-- Version 4 of it: as a new database gets it.
create table if not exists waemitter.parcels (
  id     bigint generated always as identity primary key,
  colour text not null default 'brown' check (colour <> '')
);
create index if not exists parcels_colours on waemitter.parcels (colour);

create or replace function waemitter.parcel_label(id bigint) returns text language sql stable as $$
  select p.colour from waemitter.parcels p where p.id = parcel_label.id
$$;

