-- The daemon's login, before or after the schema: it may use the tables, and create, alter or drop none.
-- For psql 14 or newer, as a role that may create roles; the password is taken from the environment.
--
--   WAEMITTER_DATABASE_PASSWORD=… psql --file deploy/postgres/roles.sql "$ADMIN_URL"

\set ON_ERROR_STOP on
\getenv password WAEMITTER_DATABASE_PASSWORD
\if :{?password}
\else
  \warn 'roles.sql: set WAEMITTER_DATABASE_PASSWORD'
  select 1 / 0 as set_waemitter_database_password;
\endif

select 'create role waemitter_daemon nologin'
where not exists (select from pg_roles where rolname = 'waemitter_daemon') \gexec

select 'create role waemitter_service login in role waemitter_daemon'
where not exists (select from pg_roles where rolname = 'waemitter_service') \gexec

alter role waemitter_service password :'password';
