-- Parcels get a colour. Older daemons, which do not name it, go on.
-- oldest daemon: 1

alter table waemitter.parcels add column colour text not null default 'brown' check (colour <> '');
update waemitter.parcels set colour = 'red' where note like '%red%';
