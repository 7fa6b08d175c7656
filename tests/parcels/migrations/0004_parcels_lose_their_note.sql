-- Nobody reads the note any more, but for daemons made for version 1.
-- oldest daemon: 2

alter table waemitter.parcels drop column note;
