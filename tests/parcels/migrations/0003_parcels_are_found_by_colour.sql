-- An index, made while the table is in use.
-- oldest daemon: 1
-- transaction: none

create index concurrently if not exists parcels_colours on waemitter.parcels (colour);
