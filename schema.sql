-- waemitter: the schema. Apply it with `waemitter schema apply`, or with psql; a second time changes nothing.
--
-- THE LIFE OF A MESSAGE
--
-- An application inserts a row into outbox_messages, in its own transaction. The row is `queued`. A trigger rings the
-- bell (NOTIFY waemitter_outbox) unless a daemon is on patrol and looks anyway. The daemon calls claim_messages(): the
-- row is `sending`, belongs to one attempt (its token), and has a lease. The daemon POSTs it to Meta's Cloud API and
-- tells the outcome to settle_messages(). Meta's webhooks then tell apply_statuses() how the journey went on.
--
--                    claim                  settle: 200                statuses, in any order
--      queued ───────────────▶ sending ───────────────────▶ sent ───────▶ delivered ───────▶ read
--       ▲  │                    │  │  │                       │
--       │  │ cancel, expiry     │  │  │ refused for good      │ failed after the 200, never once delivered
--       │  ▼                    │  │  ▼                       ▼
--       │ cancelled, expired,   │  └▶ failed ◀────────────────┘
--       │ suppressed            │
--       │                       │ no answer, or the lease ran out: sent or not? nobody knows
--       │                       ▼
--       └──────────────── unconfirmed ── a status webhook that carries the attempt's token: sent, delivered, …
--         policy `retry`,           │
--         no word in the grace      └── policy `hold`: stays, held, until an operator decides
--
-- WHO MOVES IT
--
--   claim_messages     queued → sending · sending (lease over) → unconfirmed · unconfirmed (grace over) → queued or held
--   settle_messages    sending → sent, failed (with a dead letter), queued (a retry), unconfirmed; only for the token that it
--                      was given
--   apply_statuses     anything lower → sent < failed < delivered < read; never downwards
--   apply_failures     failed → queued, where Meta gave a message up for what passes, or it gets its dead letter
--   cancel_message, retry_message, and the operator's own UPDATE
--
-- THE QUEUE IS ONE COLUMN. available_at is the due time; while sending it is the end of the lease; while unconfirmed the
-- end of the grace; 'infinity' is held (`hold` says by what, due_at keeps the row's own time); NULL has left the queue.
-- The queue's indexes hold rows WHERE available_at IS NOT NULL and nothing else, and no index names `status`: so a
-- delivered or read receipt updates its row in place (HOT), and ten million finished rows cost a claim nothing.
--
-- LANES. Messages of one lane (ordering_key, by default the recipient; '' opts out) leave one at a time: those that were
-- tried before go first, then by id. What must wait is parked when a claim meets it, and woken by what it waited for.
--
-- PAIRS. Meta takes pair_burst messages to one recipient at once, then one in pair_seconds. A row of a lane that must wait
-- for that gets the date at which it may go (`hold` = 'pair', the only hold with a date of its own) and keeps its lane's
-- order; '' opts out of this too. The last send is read from the finished rows; a row of outbox_pairs is written only for
-- a second one within pair_seconds.
--
-- BARRIERS. A held template, a campaign that does not run, a recipient who opted out: nothing touches their rows until a
-- claim meets one that is due. It parks it (`hold` = 'template:<name>' or 'campaign:<id>') or ends it (`suppressed`,
-- `cancelled`), and its lane goes on. release_holds() and release_template() let parked rows go; the sweep frees those
-- whose barrier has gone unseen. A campaign's own cap gives each of its rows a date, once.
--
-- LOCK ORDER. A claim holds its channel's bucket row and skips whatever is locked. Every other statement that changes
-- several messages locks them in the order of their ids first.
--
-- THE TWO GEARS. NOTIFY takes one lock for the whole cluster at commit. So an insert notifies only when the advisory lock
-- (1463895373, oid of outbox_messages) is free; a daemon under load holds it and looks by itself. See runtime/gears.py.

create schema if not exists waemitter;

-- Versions. What `create … if not exists` cannot bring about is done by migrations (waemitter/db/migrations/README.md), which
-- `waemitter schema apply` runs before it comes here. Applied without them, this would only seem to bring a database up to date.
do $$
declare v_missing integer;
begin
  if to_regclass('waemitter.schema_migrations') is not null then
    select min(n) into v_missing from generate_series(1, 1) n
      where exists (select from waemitter.schema_migrations) and n not in (select m.version from waemitter.schema_migrations m);
    if v_missing is not null then
      raise exception 'this database has not seen migration %: run `waemitter schema apply`', v_missing
        using hint = format('or, with psql, what `waemitter schema print --since %s` prints', v_missing - 1);
    end if;
  end if;
end $$;

create or replace function waemitter.schema_version() returns integer
language sql immutable parallel safe as 'select 1';

-- A row for each version that this database has seen. oldest_daemon: a daemon made for an older version than that cannot go on.
create table if not exists waemitter.schema_migrations (
  version       integer primary key,
  name          text not null,
  oldest_daemon integer not null,
  applied_at    timestamptz not null default clock_timestamp()
);
insert into waemitter.schema_migrations (version, name, oldest_daemon) values (1, 'initial', 1)
  on conflict (version) do nothing;

-- One form for each person: the digits of a phone number without + and leading zeros, however it was written; a
-- business-scoped user id (it has letters) as it is. Suppressions, pair limits and contacts are found by it.
create or replace function waemitter.address(recipient text) returns text language sql immutable parallel safe as $$
  select case when recipient ~ '[A-Za-z]' then btrim(recipient)
              else ltrim(regexp_replace(recipient, '[^0-9]', '', 'g'), '0') end
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Channels: a number or a Chatwoot inbox, its limits, and the bucket that hands out its send slots.

create table if not exists waemitter.channels (
  name                text primary key check (name ~ '^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$'),
  kind                text not null default 'whatsapp' check (kind in ('whatsapp', 'chatwoot')),
  phone_number_id     text,
  messages_per_second double precision not null default 80 check (messages_per_second >= 0),  -- 0 = no limit
  limit_is_set        boolean not null default false,  -- by a setting: an upgrade by Meta leaves it alone
  throttle            double precision not null default 1 check (throttle > 0 and throttle <= 1),  -- of the limit, at throttled_at
  throttled_at        timestamptz,                                                            -- Meta last said 130429
  pair_seconds        double precision not null default 6 check (pair_seconds >= 0),
  pair_burst          integer not null default 45 check (pair_burst between 1 and 45),
  unconfirmed_policy  text check (unconfirmed_policy in ('retry', 'hold')),                   -- NULL = the daemon's setting
  paused_until        timestamptz,                                                            -- 'infinity' = until resumed
  pause_reason        text,
  paused_at           timestamptz,                                                            -- when the latest pause began
  resumed_at          timestamptz,                                                            -- and when it was ended
  probe_at            timestamptz,  -- when to ask Meta whether the pause is over; NULL = it ends by time, or by an operator
  token_expires_at    timestamptz,  -- as Meta says of the daemon's token; 'infinity' = never, NULL = not known
  token_asked_at      timestamptz,  -- when a daemon last asked that
  access_token_hash   text,         -- of the token that a daemon sends with: channels of one token share its limits and pauses
  waba_id             text,         -- the WhatsApp Business Account of the number, as far as webhooks told
  display_number      text,         -- the phone number itself, in digits, as far as webhooks told
  window_policy       text not null default 'send' check (window_policy in ('send', 'fail', 'template')),  -- after 24 hours
  quality             text,
  tier                text,
  statuses_seen_at    timestamptz,  -- a status webhook came in: what is unconfirmed can be reconciled
  statuses_until      timestamptz,  -- the latest event that one told of, by Meta's clock: how far Meta has come
  created_at          timestamptz not null default now()
);

create table if not exists waemitter.channel_buckets (
  channel text primary key references waemitter.channels (name) on update cascade on delete cascade,
  tat     timestamptz not null default '-infinity',  -- theoretical arrival time (GCRA): the next free send slot
  inbound double precision not null default 0 check (inbound >= 0),  -- the recent peak, messages a second
  inbound_at timestamptz,
  -- the last slow claim met nothing due before `low`, from `low_priority` upwards; believed until `low_until`
  low          timestamptz,
  low_priority smallint,
  low_until    timestamptz
) with (fillfactor = 10);

-- Slots a second of a number: 0.97 of its limit, of which inbound messages have their share (Meta counts both), lowered
-- after a 130429 and back to the whole in up to five minutes; never below a tenth. 0 = no limit.
create or replace function waemitter.send_rate(
  messages_per_second double precision, throttle double precision, throttled_at timestamptz, inbound double precision,
  inbound_at timestamptz, at timestamptz
) returns double precision language sql immutable parallel safe as $$
  select 0.97 * greatest(messages_per_second * 0.1,
    messages_per_second * least(1, throttle + coalesce(extract(epoch from at - throttled_at) / 300, 1))
    - case when inbound_at > at - interval '1 minute' then inbound else 0 end)
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The outbox.

create table if not exists waemitter.outbox_messages (
  id                  bigint generated always as identity primary key,
  channel             text not null default 'default',
  recipient           text not null check (char_length(recipient) between 1 and 256),
  message_type        text not null check (char_length(message_type) between 1 and 64),
  payload             jsonb not null,
  priority            smallint not null default 0,
  available_at        timestamptz default clock_timestamp(),
  expires_at          timestamptz,
  ordering_key        text,
  idempotency_key     text,
  campaign_id         bigint,
  max_attempts        smallint check (max_attempts >= 0),  -- retries after the first try; NULL = the daemon's setting
  correlation_id      text,
  unconfirmed_policy  text check (unconfirmed_policy in ('retry', 'hold')),
  category            text check (category in ('marketing', 'utility', 'authentication', 'service')),  -- NULL = not told
  traceparent         text,  -- W3C Trace Context of whoever enqueued; anything else is passed over

  status              text not null default 'queued' check (status in (
                        'queued', 'sending', 'unconfirmed',                                -- in the queue
                        'sent', 'delivered', 'read',                                       -- on its way, arrived
                        'failed', 'cancelled', 'expired', 'suppressed')),                  -- ends
  attempts            smallint not null default 0,
  whatsapp_message_id text,
  error_code          integer,
  error_message       text,
  dry_run             boolean not null default false,
  billable            boolean,
  pricing_category    text,
  created_at          timestamptz not null default clock_timestamp(),
  sent_at             timestamptz,
  delivered_at        timestamptz,
  read_at             timestamptz,
  failed_at           timestamptz,
  clicked_at          timestamptz,  -- of a campaign's message: its recipient tapped a button
  replied_at          timestamptz,  -- … wrote back, or tapped
  time_zone           text,         -- the recipient's, as far as known; for a campaign's quiet hours
  enqueued_by         text not null default current_user,

  -- the queue's own
  due_at              timestamptz,  -- the row's own due time, while available_at is a lease, a grace or a hold
  claimed_at          timestamptz,  -- NULL: no attempt was ever started
  token               bigint,       -- of the latest attempt; Meta's statuses echo it
  hold                text,         -- what a held row waits for: lane, pair, unconfirmed, template:<name>, campaign:<id>
  lane                text generated always as (coalesce(ordering_key, recipient)) stored,

  constraint in_the_queue_or_out_of_it check
    ((available_at is not null) = (status in ('queued', 'sending', 'unconfirmed'))),
  constraint held_means_infinity check (hold is null or hold = 'pair' or available_at = 'infinity')
) with (
  fillfactor = 70,
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02
);

create index if not exists outbox_due on waemitter.outbox_messages (channel, priority desc, available_at, id)
  where available_at is not null;
-- as an integer: a comparison of a boolean is simplified, and would not be found in the index
create index if not exists outbox_lanes on waemitter.outbox_messages (channel, lane, ((claimed_at is null)::integer), id)
  where available_at is not null and lane <> '';
create unique index if not exists outbox_idempotency on waemitter.outbox_messages (idempotency_key)
  where idempotency_key is not null;
create index if not exists outbox_wamids on waemitter.outbox_messages (whatsapp_message_id)
  where whatsapp_message_id is not null;
create index if not exists outbox_campaigns on waemitter.outbox_messages (campaign_id, id)
  where campaign_id is not null;
-- the last sends to a recipient, for the pair limit
create index if not exists outbox_sends on waemitter.outbox_messages (channel, waemitter.address(recipient), claimed_at)
  where available_at is null and lane <> '';
create index if not exists outbox_held on waemitter.outbox_messages (hold, id)
  where available_at = 'infinity' and hold <> 'lane';

-- What a recipient was sent of late, by each channel (GCRA): only for those written to again within pair_seconds, and those
-- for whom Meta refused a message with 131056.
create table if not exists waemitter.outbox_pairs (
  channel       text not null references waemitter.channels (name) on update cascade on delete cascade,
  address       text not null,
  tat           timestamptz not null,           -- when the debt of what was sent is paid
  strikes       smallint not null default 0,    -- refusals since the last success
  struck_at     timestamptz,
  blocked_until timestamptz,
  primary key (channel, address)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

-- Attempts beyond the first: tokens and wamids that a late answer or status may still name.
create table if not exists waemitter.outbox_attempts (
  message_id          bigint not null,
  token               bigint not null,
  whatsapp_message_id text,
  ended_at            timestamptz not null default clock_timestamp(),
  primary key (message_id, token)
);
create index if not exists outbox_attempts_wamids on waemitter.outbox_attempts (whatsapp_message_id)
  where whatsapp_message_id is not null;

-- Only what a row's own timestamps do not tell: five rows a message would cost as much WAL as the message itself.
create table if not exists waemitter.outbox_transitions (
  id          bigint generated always as identity primary key,
  message_id  bigint not null,
  at          timestamptz not null default clock_timestamp(),
  from_status text not null,
  to_status   text not null,
  detail      jsonb
);
create index if not exists outbox_transitions_messages on waemitter.outbox_transitions (message_id, id);

-- How far messages got, since the first one, as a funnel: what was read was delivered, and what was delivered was sent; `failed`
-- is every other end. Each statement that moves messages leaves one row in outbox_counts, so that none waits for another at the
-- totals; the sweep adds up what is older than the minute in which sends are counted.
create table if not exists waemitter.outbox_totals (
  id        boolean primary key default true check (id),  -- there is one row
  sent      bigint not null default 0,
  delivered bigint not null default 0,
  read      bigint not null default 0,
  failed    bigint not null default 0
) with (fillfactor = 10);
create table if not exists waemitter.outbox_counts (
  at          timestamptz not null default clock_timestamp(),  -- '-infinity': inserted as they are
  campaign_id bigint,
  sent        bigint not null,
  delivered   bigint not null,
  read        bigint not null,
  failed      bigint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
do $$
begin
  if not exists (select from waemitter.outbox_totals) then  -- a scan, once: messages that are older than these tables
    insert into waemitter.outbox_totals (sent, delivered, read, failed)
      select count(*) filter (where status in ('sent', 'delivered', 'read')),
        count(*) filter (where status in ('delivered', 'read')), count(*) filter (where status = 'read'),
        count(*) filter (where status in ('failed', 'cancelled', 'expired', 'suppressed'))
      from waemitter.outbox_messages;
  end if;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Barriers: what keeps a due row from being sent.

-- A template that Meta paused, or whose rows somebody wants to wait.
create table if not exists waemitter.held_templates (
  channel    text not null references waemitter.channels (name) on update cascade on delete cascade,
  template   text not null,             -- '' = every template
  language   text not null default '',  -- '' = every language
  reason     text,
  until      timestamptz,               -- NULL = until it is released
  created_at timestamptz not null default clock_timestamp(),
  primary key (channel, template, language)
);

-- Recipients who opted out: of marketing (Meta says so, when it is set in the customer's WhatsApp), or of all messages that
-- are not declared to be of the category utility, authentication or service.
create table if not exists waemitter.suppressions (
  id         bigint generated always as identity primary key,
  channel    text references waemitter.channels (name) on update cascade on delete cascade,  -- NULL = every channel
  address    text not null check (address <> ''),  -- waemitter.address(recipient), however it was written
  scope      text not null default 'all' check (scope in ('all', 'marketing')),
  reason     text,                                 -- stop_word, marketing_stop, operator, or your own word
  source     text,
  created_at timestamptz not null default clock_timestamp()
);
create unique index if not exists suppressions_addresses on waemitter.suppressions (address, coalesce(channel, ''), scope);

-- The newest that Meta or a customer said about each thing. Webhooks come in any order and again for days: what is not newer
-- than this changes nothing.
create table if not exists waemitter.latest_news (
  account text not null,  -- a WhatsApp Business Account, or a channel
  about   text not null,  -- template_status, template_category, number, account, preference, optout, …
  subject text not null,  -- a template and its language, a number, an address; '' = the account itself
  word    text,
  at      timestamptz not null,
  primary key (account, about, subject)
);

-- One message to many. The counters are a funnel (see count_campaigns); clicked and replied count messages, not taps.
create table if not exists waemitter.campaigns (
  id                  bigint generated always as identity primary key,
  name                text not null check (name <> ''),
  channel             text not null default 'default',
  status              text not null default 'draft' check (status in (
                        'draft', 'scheduled', 'running', 'paused', 'completed', 'cancelled')),
  message_type        text,
  payload             jsonb,        -- as it was given, with its {{places}}; what was made of it is in the rows
  category            text not null default 'marketing'  -- of its messages, by which opt-outs concern them
                        check (category in ('marketing', 'utility', 'authentication', 'service')),
  messages_per_second double precision check (messages_per_second > 0),  -- its own cap; NULL = the channel's limit alone
  priority            smallint not null default 0,
  max_attempts        smallint check (max_attempts >= 0),
  starts_at           timestamptz,  -- not before
  expires_at          timestamptz,  -- of its messages
  quiet_from          time,         -- no message leaves from here …
  quiet_until         time,         -- … up to here, by the recipient's clock
  total               integer not null default 0,
  sent                integer not null default 0,
  delivered           integer not null default 0,
  read                integer not null default 0,
  failed              integer not null default 0,
  suppressed          integer not null default 0,
  cancelled           integer not null default 0,
  expired             integer not null default 0,
  clicked             integer not null default 0,
  replied             integer not null default 0,
  created_by          text not null default current_user,
  created_at          timestamptz not null default clock_timestamp(),
  started_at          timestamptz,
  completed_at        timestamptz,
  constraint quiet_hours_have_two_ends check
    ((quiet_from is null) = (quiet_until is null) and quiet_from is distinct from quiet_until or quiet_from is null)
) with (fillfactor = 50);
create index if not exists campaigns_barring on waemitter.campaigns (id)
  where status not in ('running', 'completed') or messages_per_second is not null or quiet_from is not null;

-- The theoretical arrival time of a capped campaign; only claims write it, so it has a row of its own.
create table if not exists waemitter.campaign_buckets (
  campaign_id bigint primary key references waemitter.campaigns (id) on delete cascade,
  tat         timestamptz not null default '-infinity'
) with (fillfactor = 10);

-- What happened to a campaign's messages and is not counted in its row yet: written by statements that may belong to an
-- application's long transaction, which must not hold up the daemon at that row. Whoever counts next takes them along.
create table if not exists waemitter.campaign_changes (
  campaign_id bigint not null,
  was         text,             -- NULL: a new row
  became      text,             -- NULL: a row deleted
  n           integer not null default 1
);
create index if not exists campaign_changes_campaigns on waemitter.campaign_changes (campaign_id);

-- What Meta charges for a delivered message, imported from a rate card. The most specific row counts, of those the latest.
create table if not exists waemitter.message_rates (
  id         bigint generated always as identity primary key,
  country    text not null check (country ~ '^([A-Z]{2}|\*)$'),  -- ISO 3166 of the recipient; * = any other
  category   text not null check (category <> ''),               -- as in the pricing of statuses: marketing, utility, …
  price      numeric not null check (price >= 0),
  currency   text not null check (currency ~ '^[A-Z]{3}$'),
  valid_from date not null default '-infinity'
);
create unique index if not exists message_rates_keys on waemitter.message_rates (country, category, valid_from);

-- Figures by the hour; they outlive the rows that they were counted from.
create table if not exists waemitter.service_metrics (
  id     bigint generated always as identity primary key,
  hour   timestamptz not null,
  name   text not null,
  labels jsonb not null default '{}',
  value  double precision not null
);
create unique index if not exists service_metrics_keys on waemitter.service_metrics (hour, name, labels);

create or replace view waemitter.outbox_events with (security_invoker = true) as
  select message_id, at, from_status, to_status, detail from waemitter.outbox_transitions
  union all
  select id, sent_at, 'sending', 'sent', null from waemitter.outbox_messages where sent_at is not null
  union all
  select id, delivered_at, 'sent', 'delivered', null from waemitter.outbox_messages where delivered_at is not null
  union all
  select id, read_at, 'delivered', 'read', null from waemitter.outbox_messages where read_at is not null;

-- The older words for the same rows: pending, processing, sent, delivered, read, failed.
create or replace view waemitter.message_queue with (security_invoker = true) as
  select id, campaign_id, channel, recipient, message_type, payload, priority,
         case when status = 'queued' then 'pending'
              when status in ('sending', 'unconfirmed') then 'processing'
              when status in ('cancelled', 'expired', 'suppressed') then 'failed'
              else status end as status,
         attempts, whatsapp_message_id, error_code, error_message,
         available_at, created_at, sent_at, delivered_at, read_at, failed_at
  from waemitter.outbox_messages;

create or replace function waemitter.message_queue_insert() returns trigger language plpgsql as $$
begin
  if coalesce(new.status, 'pending') not in ('pending', 'queued') then
    raise exception 'a message starts as pending, not as %', new.status using errcode = 'check_violation';
  end if;
  insert into waemitter.outbox_messages
    (campaign_id, channel, recipient, message_type, payload, priority, available_at, created_at, ordering_key)
  values (new.campaign_id, coalesce(new.channel, 'default'), new.recipient, coalesce(new.message_type, 'text'),
          new.payload, coalesce(new.priority, 0), coalesce(new.available_at, clock_timestamp()),
          coalesce(new.created_at, clock_timestamp()), case when new.campaign_id is not null then '' end)
  returning id, channel, message_type, priority, attempts, available_at, created_at
    into new.id, new.channel, new.message_type, new.priority, new.attempts, new.available_at, new.created_at;
  new.status := 'pending';
  return new;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The journal of webhooks: a body is committed here before its sender gets a 200.

create table if not exists waemitter.webhook_logs (
  id           bigint generated always as identity primary key,
  source       text not null,
  body         bytea not null,   -- as it came: jsonb would refuse a \u0000
  headers      jsonb,
  created_at   timestamptz not null default clock_timestamp(),
  available_at timestamptz default clock_timestamp(),  -- when to work on it, the end of a lease, NULL = worked on
  attempts     smallint not null default 0,
  processed_at timestamptz,
  error        text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index if not exists webhook_logs_due on waemitter.webhook_logs (available_at, id) where available_at is not null;
create index if not exists webhook_logs_created on waemitter.webhook_logs (created_at);

-- Files of a daemon's spool on disk, while they are drained: how many bytes of each are in webhook_logs. A row goes with its file.
create table if not exists waemitter.webhook_spools (
  name       text primary key,
  drained    bigint not null,
  updated_at timestamptz not null default clock_timestamp()
);

-- Since when webhooks reach us without a gap, for whatever waits for one. Daemons write here every five seconds, and at once
-- when they start or when the journal failed: so what is older than fifteen seconds was written by nobody who still lives.
create table if not exists waemitter.inbox_health (
  id      boolean primary key default true check (id),  -- there is one row
  seen_at timestamptz,  -- when a daemon last said that it receives
  since   timestamptz,  -- the end of the last gap
  away_at timestamptz   -- its beginning; gaps too close for Meta to have caught up in between are one
) with (fillfactor = 10);
insert into waemitter.inbox_health (id) values (true) on conflict do nothing;

-- ---------------------------------------------------------------------------------------------------------------------
-- Dead letters: what could not be sent, or not be handled, with what it takes to look into it and to do it again.
--
-- `outbound` letters are messages that failed for good, one for each message: `abandoned` from the start, `pending` from a
-- retry on, `resolved` when it was sent after all. `inbound` ones are retried by themselves: `pending`, due at
-- next_retry_at, until they are `resolved`, or `abandoned` after the last retry. `discarded` is an operator's word.

create table if not exists waemitter.dead_letters (
  id                  bigint generated always as identity primary key,
  direction           text not null check (direction in ('inbound', 'outbound')),
  source              text not null default 'whatsapp',
  stage               text not null,           -- where it failed; outbound: payload, send or status
  channel             text,
  message_id          bigint,                  -- of outbox_messages
  whatsapp_message_id text,
  contact             text,                    -- who wrote, or who was written to
  payload             jsonb not null,
  error               text not null,
  stack               text,
  error_class         text,
  error_code          integer,
  attempts            integer not null default 0,
  retry_count         integer not null default 0,
  next_retry_at       timestamptz,
  resolution_status   text not null default 'pending' check (resolution_status in
                        ('pending', 'resolved', 'abandoned', 'discarded')),
  correlation_id      text,
  created_at          timestamptz not null default clock_timestamp(),
  updated_at          timestamptz not null default clock_timestamp(),
  resolved_at         timestamptz              -- when it left `pending`
);
create unique index if not exists dead_letters_messages on waemitter.dead_letters (message_id) where direction = 'outbound';
create index if not exists dead_letters_due on waemitter.dead_letters (next_retry_at, id)
  where resolution_status = 'pending' and direction = 'inbound';
create index if not exists dead_letters_retried on waemitter.dead_letters (message_id)
  where resolution_status = 'pending' and direction = 'outbound';
create index if not exists dead_letters_wamids on waemitter.dead_letters (whatsapp_message_id)
  where whatsapp_message_id is not null;
create index if not exists dead_letters_ended on waemitter.dead_letters (updated_at) where resolution_status <> 'pending';

-- Two older names for the inbound ones. Through them retry_count, next_retry_at and the status (or `processed`) may be changed.
create or replace view waemitter.webhook_dlq with (security_invoker = true) as
  select id, source, stage, channel, whatsapp_message_id, contact, payload, error, stack as error_stack, retry_count,
         next_retry_at, resolution_status, correlation_id, created_at, updated_at, resolved_at
  from waemitter.dead_letters where direction = 'inbound';

create or replace view waemitter.wa_dead_letter_queue with (security_invoker = true) as
  select id, whatsapp_message_id as message_id, contact as from_number, payload, error as error_message, stack as error_stack,
         retry_count, next_retry_at, resolution_status <> 'pending' as processed, resolved_at as processed_at,
         created_at, updated_at
  from waemitter.dead_letters where direction = 'inbound';

create or replace view waemitter.webhook_dlq_summary with (security_invoker = true) as
  select resolution_status, stage, count(*) as count, max(retry_count) as most_retries, min(created_at) as oldest,
         max(created_at) as newest, count(*) filter (where next_retry_at <= now()) as due
  from waemitter.dead_letters where direction = 'inbound' group by resolution_status, stage;

create or replace function waemitter.webhook_dlq_update() returns trigger language plpgsql as $$
begin
  update waemitter.dead_letters d
    set retry_count = new.retry_count, next_retry_at = new.next_retry_at, resolution_status = new.resolution_status
    where d.id = old.id;
  return new;
end $$;

create or replace function waemitter.wa_dead_letter_queue_update() returns trigger language plpgsql as $$
begin
  update waemitter.dead_letters d
    set retry_count = new.retry_count, next_retry_at = new.next_retry_at,
        resolution_status = case when new.processed = old.processed then d.resolution_status
                                 when new.processed then 'resolved' else 'pending' end
    where d.id = old.id;
  return new;
end $$;

-- A letter tells when it changed and when it ended; one that is pending again has not ended.
create or replace function waemitter.dead_letter_updated() returns trigger language plpgsql as $$
begin
  new.updated_at := clock_timestamp();
  if new.resolution_status = 'pending' then
    new.resolved_at := null;
  elsif old.resolution_status = 'pending' or new.resolved_at is null then
    new.resolved_at := new.updated_at;
    new.next_retry_at := null;
  end if;
  return new;
end $$;

-- Delete letters that ended so long ago, at most so many; the number of those deleted. Pending ones are never deleted.
create or replace function waemitter.purge_dead_letters(older_than interval default '7 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as (
    select id from waemitter.dead_letters
    where resolution_status <> 'pending' and updated_at < clock_timestamp() - older_than
    order by updated_at limit max_rows for update skip locked),
  gone as (delete from waemitter.dead_letters d using old where d.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- The inbox: what was handled, who wrote, and what.

-- Written in the transaction of its effect: a key that can be seen is a duplicate, and a crash leaves neither. Statuses have
-- none, since they only move their message forward; three keys a message would cost as much as the message.
create table if not exists waemitter.processed_webhook_messages (
  whatsapp_message_id text not null,             -- or a digest, of what has no id of its own
  field               text not null,             -- `history` brings the ids of `messages` once more
  scope               text not null default '',  -- the phone_number_id that it came for, or the account's id
  created_at          timestamptz not null default clock_timestamp(),
  primary key (whatsapp_message_id, field, scope)
);
create index if not exists processed_webhook_messages_created on waemitter.processed_webhook_messages (created_at);

-- A person, or a group, as one channel knows them. Whoever goes by a username has no phone number, only Meta's
-- business-scoped user_id; either may come first, and both together tell that two contacts were one.
create table if not exists waemitter.contacts (
  id         bigint generated always as identity primary key,
  channel    text not null,
  wa_id      text,    -- the phone number in digits, as Meta spells it
  user_id    text,
  group_id   text,    -- or the id of the business account itself: what Meta tells of it is a turn too, when a route asks for it
  phone      text generated always as ('+' || wa_id) stored,
  name       text,
  username   text,
  joined_to  bigint,  -- the contact that this one turned out to be; it has the addresses now
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);

create index if not exists contacts_users on waemitter.contacts (coalesce(wa_id, user_id, group_id));

-- Each address leads to one contact. One that was given up (the number was changed) still leads there for what was written before.
create table if not exists waemitter.contact_addresses (
  channel    text not null,
  address    text not null,  -- digits of a phone number, a business-scoped user id, or a group's id
  contact_id bigint not null references waemitter.contacts (id) on delete cascade,
  retired_at timestamptz,
  primary key (channel, address)
);
create index if not exists contact_addresses_contacts on waemitter.contact_addresses (contact_id);

create table if not exists waemitter.conversations (
  id              bigint generated always as identity primary key,
  channel         text not null,
  contact_id      bigint not null references waemitter.contacts (id) on delete cascade,
  status          text not null default 'idle' check (status in ('idle', 'buffering', 'processing', 'human', 'error')),
  last_inbound_at timestamptz,  -- by Meta's clock: opens the 24 hours in which free-form messages are allowed
  lock_id         uuid,
  locked_at       timestamptz,  -- the last renewal; NULL when free
  lock_expires_at timestamptz,
  fence           bigint not null default 0,  -- rises with each new holder of the lock: what an older one writes has no effect
  correlation_id  text,         -- of whoever took the lock with acquire_conversation_lock()
  takeover_until  timestamptz,  -- a human answers until then
  rate_since      timestamptz,  -- messages that were taken in the minute from here on
  rate_count      integer not null default 0,
  created_at      timestamptz not null default clock_timestamp(),
  updated_at      timestamptz not null default clock_timestamp(),
  unique (channel, contact_id)
) with (fillfactor = 70);
create index if not exists conversations_contacts on waemitter.conversations (contact_id);
create index if not exists conversations_locked on waemitter.conversations (lock_expires_at) where lock_id is not null;
create index if not exists conversations_active on waemitter.conversations (status, updated_at) where status <> 'idle';

-- A conversation as Chatwoot has it. Either our conversation is of a number, and people answer it there; or it is of the inbox
-- itself, which is a channel like any other: what is written there is answered from here.
create table if not exists waemitter.chatwoot_conversations (
  channel         text not null references waemitter.channels (name) on update cascade on delete cascade,
  chatwoot_id     bigint not null,  -- its number within the account
  conversation_id bigint not null references waemitter.conversations (id) on delete cascade,
  status          text,             -- open, resolved, pending, snoozed
  assignee_id     bigint,           -- the agent who has it
  told_at         timestamptz,      -- of the latest news about both, by Chatwoot's clock
  reconciled_id   bigint not null default 0,  -- messages up to here were asked for
  created_at      timestamptz not null default clock_timestamp(),
  primary key (channel, chatwoot_id)
);
create index if not exists chatwoot_conversations_conversations on waemitter.chatwoot_conversations (conversation_id, chatwoot_id);

-- How far the webhooks of an inbox were made up for by asking Chatwoot.
create table if not exists waemitter.chatwoot_inboxes (
  channel         text primary key references waemitter.channels (name) on update cascade on delete cascade,
  reconciled_until timestamptz not null  -- by Chatwoot's clock
);

create table if not exists waemitter.conversation_state_transitions (
  id              bigint generated always as identity primary key,
  conversation_id bigint not null references waemitter.conversations (id) on delete cascade,
  at              timestamptz not null default clock_timestamp(),
  from_status     text not null,
  to_status       text not null,
  reason          text,
  correlation_id  text
);
create index if not exists conversation_state_transitions_conversations
  on waemitter.conversation_state_transitions (conversation_id, id);
create index if not exists conversation_state_transitions_humans on waemitter.conversation_state_transitions (at)
  where to_status = 'human';

-- What was written to us (and by colleagues on the phone), each message whole.
create table if not exists waemitter.inbound_messages (
  id                  bigint generated always as identity primary key,
  conversation_id     bigint not null references waemitter.conversations (id) on delete cascade,
  whatsapp_message_id text not null,
  message_type        text not null,
  payload             jsonb not null,  -- Meta's message object
  contact             jsonb,           -- Meta's words about who wrote it: in a group, one of its members
  from_us             boolean not null default false,  -- a colleague wrote it, on the phone
  wish                text check (wish in ('stop', 'start')),  -- it was an opt-out word, and has had its answer
  sent_at             timestamptz,     -- by Meta's clock, whole seconds
  webhook_id          bigint,          -- the row of webhook_logs that brought it
  created_at          timestamptz not null default clock_timestamp()
);
create index if not exists inbound_messages_conversations on waemitter.inbound_messages
  (conversation_id, (coalesce(sent_at, created_at)), id);
create index if not exists inbound_messages_wamids on waemitter.inbound_messages (whatsapp_message_id);

-- Files that customers sent: fetched from Meta, which keeps them for seven days, when a place to keep them is set. `pending` until
-- they are `stored`, or `failed` after the last try (with a dead letter of the stage media, which tries it again).
create table if not exists waemitter.inbound_media (
  id                  bigint generated always as identity primary key,
  message_id          bigint unique references waemitter.inbound_messages (id) on delete set null,
  channel             text not null,
  whatsapp_message_id text not null,
  kind                text not null check (kind in ('image', 'video', 'audio', 'document', 'sticker')),
  media_id            text not null,
  mime_type           text,           -- without its parameters
  sha256              text check (sha256 ~ '^[0-9a-f]{64}$'),
  status              text not null default 'pending' check (status in ('pending', 'stored', 'failed')),
  available_at        timestamptz default clock_timestamp(),  -- when to fetch it, the end of a lease, NULL = ended
  attempts            smallint not null default 0,
  path                text,           -- where it is: a file, or s3://bucket/key
  bytes               bigint,
  error               text,
  created_at          timestamptz not null default clock_timestamp(),
  stored_at           timestamptz
);
create index if not exists inbound_media_due on waemitter.inbound_media (available_at, id) where available_at is not null;
create index if not exists inbound_media_wamids on waemitter.inbound_media (whatsapp_message_id);
create index if not exists inbound_media_ages on waemitter.inbound_media (coalesce(stored_at, created_at));
create index if not exists inbound_media_paths on waemitter.inbound_media (path) where path is not null;
create index if not exists inbound_media_orphans on waemitter.inbound_media (id) where message_id is null;

-- Statuses of messages that nobody here knows (yet): another application on the same number, or a message whose wamid was not
-- stored when its status came without our echo.
create table if not exists waemitter.parked_statuses (
  id         bigint generated always as identity primary key,
  message_id bigint,
  token      bigint,
  wamid      text not null,
  word       text not null,
  at         timestamptz,
  code       integer,
  reason     text,
  category   text,
  billable   boolean,
  parked_at  timestamptz not null default clock_timestamp(),
  unique (wamid, word)
);
create index if not exists parked_statuses_parked on waemitter.parked_statuses (parked_at);

-- ---------------------------------------------------------------------------------------------------------------------
-- Turns: what a customer wrote in one window, answered once.
--
-- A message opens its conversation's window (a row of message_buffer, `open`) or joins the one that is open. closes_at is the
-- queue's one column, as available_at is in the outbox: when the window closes; from then on (`processing`) the end of the
-- lease, or of the wait before another try; NULL has left the queue, `completed` or `failed`. A turn is worked on by whoever
-- holds its conversation's lock, and its end is one transaction: replies into the outbox, session, buffer, lock.
--
--      open ──▶ processing ──▶ completed          a conversation: idle ──▶ buffering ──▶ processing ──▶ idle
--                  │  ▲                                                        └─ human, or error, until the next turn ends
--                  ▼  │ its job set back to `scheduled`
--                 failed (a dead letter tells why)
--
-- Locks are taken in one order: conversations by id, then buffers, then the outbox.

create table if not exists waemitter.message_buffer (
  id                bigint generated always as identity primary key,
  conversation_id   bigint not null references waemitter.conversations (id) on delete cascade,
  status            text not null default 'open' check (status in ('open', 'processing', 'completed', 'failed')),
  message_count     integer not null default 0,
  buffer_start_time timestamptz not null default clock_timestamp(),
  closes_at         timestamptz,  -- see above
  oldest_at         timestamptz,  -- closes_at is never later than this: the window's greatest age
  waits             boolean not null default false,  -- due, but its conversation is at work: woken when that ends
  flush_reason      text,         -- time, age, size, at_once or trigger
  closed_at         timestamptz,  -- when it was due: its first claim may be later
  superseded        smallint not null default 0,  -- answers dropped since more was written meanwhile
  resume            jsonb,        -- the answer of a handler, when only its commit failed
  dead_letter_id    bigint,
  correlation_id    text not null default gen_random_uuid()::text,
  route             text,
  outcome           text,         -- how it ended: answered, silent, human, failed
  field             text,         -- it is no window: a webhook told this, and a route asks for it
  created_at        timestamptz not null default clock_timestamp(),
  processed_at      timestamptz
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create unique index if not exists message_buffer_open on waemitter.message_buffer (conversation_id) where status = 'open';
create index if not exists message_buffer_due on waemitter.message_buffer (closes_at, id) where closes_at is not null;
create index if not exists message_buffer_unfinished on waemitter.message_buffer (conversation_id, id)
  where closes_at is not null;
create index if not exists message_buffer_conversations on waemitter.message_buffer (conversation_id, id);
create index if not exists message_buffer_created on waemitter.message_buffer (created_at);
create index if not exists message_buffer_processed on waemitter.message_buffer (processed_at) where processed_at is not null;

create table if not exists waemitter.buffered_messages (
  id                  bigint generated always as identity primary key,
  buffer_id           bigint not null references waemitter.message_buffer (id) on delete cascade,
  whatsapp_message_id text not null,
  message_type        text not null,
  payload             jsonb not null,  -- Meta's message object, whole
  sent_at             timestamptz,     -- by Meta's clock
  inbound_id          bigint,          -- of inbound_messages
  created_at          timestamptz not null default clock_timestamp()
);
create index if not exists buffered_messages_buffers on waemitter.buffered_messages (buffer_id, sent_at, id);
create index if not exists buffered_messages_wamids on waemitter.buffered_messages (whatsapp_message_id);

-- The work on a buffer. An operator who sets a failed or completed one back to `scheduled` has it done again.
create table if not exists waemitter.buffer_processing_jobs (
  id            bigint generated always as identity primary key,
  buffer_id     bigint not null unique references waemitter.message_buffer (id) on delete cascade,
  status        text not null default 'scheduled' check (status in ('scheduled', 'processing', 'completed', 'failed')),
  attempts      integer not null default 0,
  error_message text,
  created_at    timestamptz not null default clock_timestamp(),
  updated_at    timestamptz not null default clock_timestamp()
) with (fillfactor = 70);
create index if not exists buffer_processing_jobs_failed on waemitter.buffer_processing_jobs (created_at) where status = 'failed';

-- What a service remembers of a contact between turns.
create table if not exists waemitter.user_sessions (
  id               bigint generated always as identity primary key,
  channel          text not null,
  contact_id       bigint not null references waemitter.contacts (id) on delete cascade,
  phone_number     text,  -- or the business-scoped user id, of who has no number
  active_service   text,
  context          jsonb not null default '{}',
  last_interaction timestamptz not null default clock_timestamp(),
  created_at       timestamptz not null default clock_timestamp(),
  updated_at       timestamptz not null default clock_timestamp(),
  unique (channel, contact_id)
) with (fillfactor = 70);
create index if not exists user_sessions_contacts on waemitter.user_sessions (contact_id);
create index if not exists user_sessions_interactions on waemitter.user_sessions (last_interaction);
create index if not exists user_sessions_phones on waemitter.user_sessions (phone_number);

-- Switches that work at once. rollout_percent: for that share of the contacts, always the same ones.
create table if not exists waemitter.feature_flags (
  flag_name       text primary key,
  is_enabled      boolean not null default true,
  rollout_percent smallint not null default 100 check (rollout_percent between 0 and 100),
  description     text,
  updated_at      timestamptz not null default clock_timestamp()
);
insert into waemitter.feature_flags (flag_name, is_enabled, description) values
  ('message_buffering', true, 'Windows gather what a customer writes; off: each message is a turn of its own'),
  ('enhanced_processing', true, 'Windows, supersede and agents; off: claims, locks and dead letters alone'),
  ('response_quality_enhancement', false, 'For agents: a second look at an answer before it is sent'),
  ('buffer_processing', true, 'Turns are worked on; off: buffers fill and wait (toggle_buffer_processing)')
on conflict do nothing;

-- ---------------------------------------------------------------------------------------------------------------------
-- Files that were uploaded to Meta, so that none goes there twice while it is kept.

create table if not exists waemitter.media (
  id              bigint generated always as identity primary key,
  channel         text not null,
  phone_number_id text not null,  -- a media id is good for the number that uploaded it alone
  sha256          text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  mime_type       text not null,
  bytes           bigint not null,
  media_id        text not null,
  uploaded_at     timestamptz not null,
  expires_at      timestamptz not null,
  unique (channel, sha256, mime_type)
);

-- ---------------------------------------------------------------------------------------------------------------------
-- Agents: what they remember, and what they used.

-- The memory of a conversation, an exchange a row. agent NULL: a person answered, which every agent gets to see. A turn that is
-- tried again replaces its row. `summary` stands for all entries up to through_id, which are kept for those who read.
create table if not exists waemitter.agent_contexts (
  id         bigint generated always as identity primary key,
  contact_id bigint not null references waemitter.contacts (id) on delete cascade,
  agent      text,
  kind       text not null check (kind in ('turn', 'human', 'summary')),
  turn_id    bigint,
  heard      text,  -- what the customer wrote, in words
  said       text,  -- the answer, or the summary
  through_id bigint,
  created_at timestamptz not null default clock_timestamp(),
  check ((kind = 'human') = (agent is null)),
  check ((kind = 'summary') = (through_id is not null))
);
create index if not exists agent_contexts_contacts on waemitter.agent_contexts (contact_id, id);
create unique index if not exists agent_contexts_turns on waemitter.agent_contexts (contact_id, agent, turn_id)
  where turn_id is not null;
create unique index if not exists agent_contexts_summaries on waemitter.agent_contexts (contact_id, agent) where kind = 'summary';
create index if not exists agent_contexts_created on waemitter.agent_contexts (created_at);

-- One attempt of an agent at one turn. `running` has its tokens reserved; `lost` was cancelled, or its daemon died.
create table if not exists waemitter.agent_sessions (
  id              bigint generated always as identity primary key,
  agent           text not null,
  variant         text not null,
  model           text not null,
  contact_id      bigint,  -- NULL: forgotten
  conversation_id bigint not null,
  turn_id         bigint not null,
  attempt         integer not null,
  outcome         text not null default 'running' check (outcome in
                    ('running', 'answered', 'fallback', 'failed', 'refused', 'lost')),
  handover        boolean not null default false,
  review          text,    -- what the second look did: kept, rewritten, rejected, skipped
  calls           integer not null default 0,
  tool_calls      integer not null default 0,
  reserved        bigint not null default 0,  -- tokens
  input_tokens    bigint not null default 0,
  output_tokens   bigint not null default 0,
  cost            numeric not null default 0, -- by the prices of the settings, in their currency
  latency_ms      integer,
  error           text,
  correlation_id  text,
  started_at      timestamptz not null default clock_timestamp(),
  ended_at        timestamptz
);
create index if not exists agent_sessions_agents on waemitter.agent_sessions (agent, started_at);
create index if not exists agent_sessions_turns on waemitter.agent_sessions (turn_id, agent);
create index if not exists agent_sessions_contacts on waemitter.agent_sessions (contact_id);
create index if not exists agent_sessions_started on waemitter.agent_sessions (started_at);

-- Tokens of a day of UTC, used or reserved: of each contact, and under contact_id 0 of all together.
create table if not exists waemitter.agent_usage (
  agent      text not null,
  day        date not null,
  contact_id bigint not null,
  tokens     bigint not null default 0,
  primary key (agent, day, contact_id)
) with (fillfactor = 70);

-- ---------------------------------------------------------------------------------------------------------------------
-- What runs on the clock. The daemon writes a row for each job that it knows; any daemon may run it, one at a time.

create table if not exists waemitter.jobs (
  id               bigint generated always as identity primary key,
  name             text not null unique check (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  schedule         text not null,                -- cron syntax, or an interval: 10s, 5m, 1h
  time_zone        text not null default 'UTC',  -- of cron syntax
  enabled          boolean not null default true,
  next_run_at      timestamptz,                  -- NULL = a daemon has yet to work it out
  problem          text,                         -- why the schedule cannot be understood
  default_schedule text,                         -- what the daemon's settings said last; `schedule` follows it while that changes
  run_id           bigint,                       -- of the run at work
  running_until    timestamptz,                  -- its lease
  created_at       timestamptz not null default clock_timestamp()
);

create table if not exists waemitter.job_runs (
  id          bigint generated always as identity primary key,
  job_name    text not null references waemitter.jobs (name) on update cascade on delete cascade,
  reason      text not null default 'request' check (reason in ('schedule', 'request', 'due')),
  status      text not null default 'starting' check (status in ('starting', 'running', 'succeeded', 'failed')),
  summary     jsonb,
  error       text,
  created_at  timestamptz not null default clock_timestamp(),
  started_at  timestamptz,
  finished_at timestamptz,
  duration    interval generated always as (finished_at - started_at) stored
);
create index if not exists job_runs_jobs on waemitter.job_runs (job_name, id);
create unique index if not exists job_runs_requested on waemitter.job_runs (job_name) where status = 'starting';
create index if not exists job_runs_created on waemitter.job_runs (created_at);

-- The older names. cron_job takes updates (schedule, active), cron_job_logs deletes.
create or replace view waemitter.cron_job with (security_invoker = true) as
  select id as jobid, name as jobname, schedule, enabled as active, time_zone, next_run_at from waemitter.jobs;

create or replace view waemitter.cron_job_run_details with (security_invoker = true) as
  select j.id as jobid, r.id as runid, r.job_name as jobname, r.status, coalesce(r.error, r.summary::text) as return_message,
         r.started_at as start_time, r.finished_at as end_time
  from waemitter.job_runs r join waemitter.jobs j on j.name = r.job_name;

create or replace view waemitter.cron_job_logs with (security_invoker = true) as
  select id, job_name, status, error as error_message, summary, created_at as executed_at, finished_at, duration
  from waemitter.job_runs;

-- What somebody is told of. An alert is a row as long as it holds, whichever daemons see it, and stays as history. One that is not
-- seen again before seen_until is over; it is told of when it has held for `hold`.
create table if not exists waemitter.alerts (
  id          bigint generated always as identity primary key,
  name        text not null,
  labels      jsonb not null default '{}',
  severity    text not null check (severity in ('page', 'ticket')),
  summary     text not null,
  action      text not null,              -- what to do about it
  value       double precision not null,
  hold        interval not null,
  since       timestamptz not null default clock_timestamp(),
  seen_until  timestamptz not null,
  fired_at    timestamptz,                -- NULL: it has not held for long enough yet
  ended_at    timestamptz,
  notified_at timestamptz,
  notify_at   timestamptz,                -- when the receiver is due to hear of it; NULL = it has
  failures    integer not null default 0  -- of telling, since the last success
);
create unique index if not exists alerts_open on waemitter.alerts (name, labels) where ended_at is null;
create index if not exists alerts_notify on waemitter.alerts (notify_at) where notify_at is not null;
create index if not exists alerts_ended on waemitter.alerts (ended_at) where ended_at is not null;

-- ---------------------------------------------------------------------------------------------------------------------
-- The HTTP API's keys, and the audit of what was done by hand.

-- Of a secret only its SHA-256 is kept: it is 256 random bits, which no guessing finds.
create table if not exists waemitter.api_keys (
  id           bigint generated always as identity primary key,
  name         text not null check (char_length(name) between 1 and 100),
  digest       bytea not null unique check (octet_length(digest) = 32),
  scopes       text[] not null check (cardinality(scopes) > 0
                 and scopes <@ array['trigger', 'send', 'campaigns', 'jobs', 'read', 'admin']),
  created_at   timestamptz not null default clock_timestamp(),
  created_by   text not null default current_user,
  expires_at   timestamptz,
  last_used_at timestamptz,  -- to the minute
  revoked_at   timestamptz
);

create table if not exists waemitter.audit_log (
  id         bigint generated always as identity primary key,
  at         timestamptz not null default clock_timestamp(),
  action     text not null,
  target     text,
  actor      text,           -- whom the client named (x-user-id); nothing proves it
  key_name   text not null,  -- whose key it was
  request_id text
);
create index if not exists audit_log_at on waemitter.audit_log (at);

-- ---------------------------------------------------------------------------------------------------------------------
-- The bell.

-- The daemon's side of the two gears (runtime/gears.py), each called on its LISTEN connection: the lock lives and dies with it.
-- Whoever takes the lock says so in the same breath: it may freeze with the lock in its hand, and the others must know.
create or replace function waemitter.start_patrol() returns boolean language plpgsql volatile as $$
begin
  if not pg_try_advisory_lock(1463895373, 'waemitter.outbox_messages'::regclass::oid::integer) then
    return false;
  end if;
  notify waemitter_gears;
  return true;
end $$;

create or replace function waemitter.end_patrol() returns void language plpgsql volatile as $$
begin
  while exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid() and classid = 1463895373
                and objid = 'waemitter.outbox_messages'::regclass::oid and objsubid = 2 and mode = 'ExclusiveLock') loop
    perform pg_advisory_unlock(1463895373, 'waemitter.outbox_messages'::regclass::oid::integer);
  end loop;
end $$;

-- True while some daemon, this connection's own included, is on patrol.
create or replace function waemitter.patrolled() returns boolean language sql volatile as $$
  select exists (select from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock'
                 and database = (select oid from pg_database where datname = current_database())
                 and classid = 1463895373 and objid = 'waemitter.outbox_messages'::regclass::oid and objsubid = 2)
$$;

-- A transaction id that is newer than that of every insert which stayed silent before this call.
create or replace function waemitter.patrol_horizon() returns text language sql volatile as $$
  select pg_current_xact_id()::text
$$;

-- True while a transaction older than the horizon, which wrote to the outbox, is still open: its silent rows may yet commit.
-- Other open transactions do not matter. A prepared one does (it has no pid).
create or replace function waemitter.older_writers(horizon text) returns boolean language sql volatile as $$
  select exists (
    select from pg_locks r join pg_locks t using (virtualtransaction)
    where r.locktype = 'relation' and r.database = (select oid from pg_database where datname = current_database())
      and r.relation = 'waemitter.outbox_messages'::regclass and r.mode = 'RowExclusiveLock'
      and r.pid is distinct from pg_backend_pid()
      and t.locktype = 'transactionid' and t.mode = 'ExclusiveLock' and t.granted
      and age(t.transactionid) >= age(xid(horizon::xid8)))
$$;

-- Silent for rows due later than two sweeps (a daemon sweeps at least once a minute): a sweep finds those in time.
create or replace function waemitter.notify_outbox_insert() returns trigger language plpgsql as $$
declare v_due boolean; v_campaigns boolean; v_ended boolean;
begin
  select exists (select from inserted where available_at <= clock_timestamp() + interval '2 minutes'),
         exists (select from inserted where campaign_id is not null),
         exists (select from inserted where available_at is null) into v_due, v_campaigns, v_ended;
  if v_campaigns then
    insert into waemitter.campaign_changes (campaign_id, became, n)
      select campaign_id, status, count(*) from inserted where campaign_id is not null group by 1, 2;
  end if;
  if v_ended then
    insert into waemitter.outbox_counts (at, campaign_id, sent, delivered, read, failed)
      select '-infinity', campaign_id, count(*) filter (where status in ('sent', 'delivered', 'read')),
        count(*) filter (where status in ('delivered', 'read')), count(*) filter (where status = 'read'),
        count(*) filter (where status in ('failed', 'cancelled', 'expired', 'suppressed'))
      from inserted where available_at is null group by 2;
  end if;
  if v_due
     and pg_try_advisory_lock_shared(1463895373, tg_relid::integer)
     and pg_advisory_unlock_shared(1463895373, tg_relid::integer) then
    notify waemitter_outbox;
  end if;
  return null;
end $$;

-- Mappers write NULL where a column was not set: a message without a time is due now.
create or replace function waemitter.due_now() returns trigger language plpgsql as $$
begin
  new.available_at := clock_timestamp();
  return new;
end $$;

create or replace function waemitter.notify_outbox_retry() returns trigger language plpgsql as $$
begin
  if pg_try_advisory_lock_shared(1463895373, tg_relid::integer)
     and pg_advisory_unlock_shared(1463895373, tg_relid::integer) then
    notify waemitter_outbox;
  end if;
  return null;
end $$;

create or replace function waemitter.normalise_address() returns trigger language plpgsql as $$
begin
  new.address := waemitter.address(new.address);
  return new;
end $$;

-- The end of a pause ends its reason, whoever ends it: a later pause without a reason is an operator's, and is not probed.
create or replace function waemitter.channel_resumed() returns trigger language plpgsql as $$
begin
  new.pause_reason := null;
  new.probe_at := null;
  new.resumed_at := clock_timestamp();
  return new;
end $$;

create or replace function waemitter.channel_changed() returns trigger language plpgsql as $$
begin
  insert into waemitter.channel_buckets (channel) values (new.name) on conflict do nothing;
  notify waemitter_outbox;
  return null;
end $$;

-- Buffers that somebody else than the daemon made due, and switches that were turned.
create or replace function waemitter.notify_buffer() returns trigger language plpgsql as $$
begin
  notify waemitter_buffer;
  return null;
end $$;

-- A job that had ended and is set back to `scheduled`: its buffer is due once more.
create or replace function waemitter.reschedule_buffer() returns trigger language plpgsql as $$
begin
  update waemitter.message_buffer b
    set status = 'processing', closes_at = clock_timestamp(), waits = false, processed_at = null, outcome = null
    where b.id = new.buffer_id and b.status in ('completed', 'failed');
  notify waemitter_buffer;
  return null;
end $$;

create or replace function waemitter.notify_jobs() returns trigger language plpgsql as $$
begin
  notify waemitter_jobs;
  return null;
end $$;

-- Another schedule has another next run; one that was away a while does not make up for it.
create or replace function waemitter.job_changed() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    new.enabled := new.enabled and (new.name <> 'buffer-processor' or waemitter.flag_enabled('buffer_processing'));
  else
    if new.schedule <> old.schedule or new.time_zone <> old.time_zone or (new.enabled and not old.enabled) then
      new.next_run_at := null;
      new.problem := null;
    end if;
  end if;
  if coalesce(current_setting('waemitter.quiet', true), '') <> 'on' then notify waemitter_jobs; end if;
  return new;
end $$;

-- buffer-processor and the switch buffer_processing are one: who turns off either turns off the other.
create or replace function waemitter.buffer_processor_switched() returns trigger language plpgsql as $$
begin
  update waemitter.feature_flags f set is_enabled = new.enabled, updated_at = clock_timestamp()
    where f.flag_name = 'buffer_processing' and f.is_enabled <> new.enabled;
  return null;
end $$;

create or replace function waemitter.buffer_processing_switched() returns trigger language plpgsql as $$
begin
  update waemitter.jobs j set enabled = new.is_enabled where j.name = 'buffer-processor' and j.enabled <> new.is_enabled;
  return null;
end $$;

-- The functions of the daemon set waemitter.quiet while they run, so that its own writes ring nothing (with set_config, since
-- only a superuser may attach a setting of that kind to a function). The catalogue is asked first:
-- to drop and create a trigger again would wait for, and hold up, every writer.
do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'waemitter.outbox_messages'::regclass
                 and tgname = 'outbox_due_trigger') then
    create trigger outbox_due_trigger before insert on waemitter.outbox_messages
      for each row when (new.available_at is null and new.status = 'queued') execute function waemitter.due_now();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.outbox_messages'::regclass
                 and tgname = 'outbox_insert_trigger') then
    create trigger outbox_insert_trigger after insert on waemitter.outbox_messages
      referencing new table as inserted for each statement execute function waemitter.notify_outbox_insert();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.outbox_messages'::regclass
                 and tgname = 'outbox_retry_trigger') then
    create trigger outbox_retry_trigger after update of status, available_at on waemitter.outbox_messages
      for each statement when (coalesce(current_setting('waemitter.quiet', true), '') <> 'on')
      execute function waemitter.notify_outbox_retry();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.channels'::regclass
                 and tgname = 'channel_trigger') then
    create trigger channel_trigger after insert or update of messages_per_second, paused_until on waemitter.channels
      for each row execute function waemitter.channel_changed();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.channels'::regclass
                 and tgname = 'channel_resume_trigger') then
    create trigger channel_resume_trigger before update of paused_until on waemitter.channels
      for each row when (new.paused_until is null and old.paused_until is not null)
      execute function waemitter.channel_resumed();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.dead_letters'::regclass
                 and tgname = 'dead_letter_trigger') then
    create trigger dead_letter_trigger before update on waemitter.dead_letters
      for each row execute function waemitter.dead_letter_updated();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.webhook_dlq'::regclass
                 and tgname = 'webhook_dlq_update_trigger') then
    create trigger webhook_dlq_update_trigger instead of update on waemitter.webhook_dlq
      for each row execute function waemitter.webhook_dlq_update();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.wa_dead_letter_queue'::regclass
                 and tgname = 'wa_dead_letter_queue_update_trigger') then
    create trigger wa_dead_letter_queue_update_trigger instead of update on waemitter.wa_dead_letter_queue
      for each row execute function waemitter.wa_dead_letter_queue_update();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.suppressions'::regclass
                 and tgname = 'suppression_trigger') then
    create trigger suppression_trigger before insert or update of address on waemitter.suppressions
      for each row execute function waemitter.normalise_address();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.dead_letters'::regclass
                 and tgname = 'dead_letter_due_trigger') then
    create trigger dead_letter_due_trigger after insert or update of next_retry_at, resolution_status on waemitter.dead_letters
      for each row when (new.direction = 'inbound' and new.resolution_status = 'pending' and new.next_retry_at is not null)
      execute function waemitter.notify_jobs();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.jobs'::regclass and tgname = 'job_trigger') then
    create trigger job_trigger before insert or update of schedule, time_zone, enabled, next_run_at on waemitter.jobs
      for each row execute function waemitter.job_changed();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.jobs'::regclass and tgname = 'job_switch_trigger') then
    create trigger job_switch_trigger after update of enabled on waemitter.jobs
      for each row when (new.name = 'buffer-processor') execute function waemitter.buffer_processor_switched();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.feature_flags'::regclass
                 and tgname = 'buffer_processing_trigger') then
    create trigger buffer_processing_trigger after insert or update of is_enabled on waemitter.feature_flags
      for each row when (new.flag_name = 'buffer_processing') execute function waemitter.buffer_processing_switched();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.job_runs'::regclass and tgname = 'job_run_trigger') then
    create trigger job_run_trigger after insert or update of status on waemitter.job_runs
      for each row when (new.status = 'starting') execute function waemitter.notify_jobs();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.message_queue'::regclass
                 and tgname = 'message_queue_insert_trigger') then
    create trigger message_queue_insert_trigger instead of insert on waemitter.message_queue
      for each row execute function waemitter.message_queue_insert();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.message_buffer'::regclass
                 and tgname = 'message_buffer_trigger') then
    create trigger message_buffer_trigger after update of status, closes_at on waemitter.message_buffer
      for each statement when (coalesce(current_setting('waemitter.quiet', true), '') <> 'on')
      execute function waemitter.notify_buffer();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.feature_flags'::regclass
                 and tgname = 'feature_flags_trigger') then
    create trigger feature_flags_trigger after insert or update on waemitter.feature_flags
      for each statement execute function waemitter.notify_buffer();
  end if;
  if not exists (select from pg_trigger where tgrelid = 'waemitter.buffer_processing_jobs'::regclass
                 and tgname = 'buffer_processing_jobs_trigger') then
    create trigger buffer_processing_jobs_trigger after update of status on waemitter.buffer_processing_jobs
      for each row when (new.status = 'scheduled' and old.status in ('completed', 'failed'))
      execute function waemitter.reschedule_buffer();
  end if;
end $$;

insert into waemitter.channels (name) values ('default') on conflict do nothing;

-- ---------------------------------------------------------------------------------------------------------------------
-- Opt-outs, and the 24 hours after a customer's message.

-- A template's category as Meta last told it; NULL: it did not.
create or replace function waemitter.template_category(channel text, template text) returns text language sql stable as $$
  select lower(n.word) from waemitter.channels c
  join waemitter.latest_news n on n.account = c.waba_id and n.about = 'template_category'
  where c.name = template_category.channel and n.subject = template_category.template
$$;

-- Whether an opt-out of this scope concerns a message. One of marketing: what is declared as such, and templates that are to
-- Meta. One of all: whatever is not declared as utility, authentication or service.
create or replace function waemitter.opt_out_concerns(
  scope text, channel text, category text, message_type text, payload jsonb
) returns boolean language sql stable as $$
  select case when scope = 'all' then coalesce(category, '') not in ('utility', 'authentication', 'service')
              else coalesce(category, case when message_type = 'template'
                     then waemitter.template_category(channel, payload #>> '{template,name}') end, '') = 'marketing' end
$$;

-- Put a recipient on the list, of one channel or (NULL) of all. True when they were not on it.
create or replace function waemitter.suppress(
  recipient text, scope text default 'all', channel text default null, reason text default 'operator',
  source text default null
) returns boolean language sql as $$
  with put as (
    insert into waemitter.suppressions (address, scope, channel, reason, source)
    values (waemitter.address(recipient), scope, channel, reason, source) on conflict do nothing returning 1)
  select exists (select from put)
$$;

-- Take a recipient off the list: with a channel, of what concerns that channel alone; a scope or reason of NULL is any.
-- Returns how many entries were removed.
create or replace function waemitter.unsuppress(
  recipient text, scope text default null, channel text default null, reason text default null
) returns integer language sql as $$
  with gone as (
    delete from waemitter.suppressions s
    where s.address = waemitter.address(unsuppress.recipient) and s.scope = coalesce(unsuppress.scope, s.scope)
      and (unsuppress.channel is null or s.channel = unsuppress.channel)
      and (unsuppress.reason is null or s.reason = unsuppress.reason)
    returning 1)
  select count(*)::integer from gone
$$;

-- When this recipient last wrote to the channel; NULL: never, as far as we know. Advisory: webhooks come late.
create or replace function waemitter.last_inbound_at(channel text, recipient text) returns timestamptz
language sql stable as $$
  select v.last_inbound_at from waemitter.contact_addresses a
  join waemitter.conversations v on v.channel = a.channel and v.contact_id = a.contact_id
  where a.channel = last_inbound_at.channel and a.address = waemitter.address(last_inbound_at.recipient)
    and a.retired_at is null
$$;

-- Whether a message is free-form, to a person who has not written within 24 hours (as far as we know: webhooks come late,
-- and Meta decides). Groups have no such window here.
create or replace function waemitter.outside_window(channel text, recipient text, message_type text, payload jsonb)
returns boolean language sql stable as $$
  select message_type <> 'template' and coalesce(payload ->> 'recipient_type', '') <> 'group'
    and coalesce(waemitter.last_inbound_at(channel, recipient), '-infinity') < clock_timestamp() - interval '24 hours'
$$;

-- Those of the given messages that are outside the window.
create or replace function waemitter.messages_outside_window(ids bigint[]) returns bigint[] language sql stable as $$
  select coalesce(array_agg(o.id), '{}') from waemitter.outbox_messages o
  where o.id = any (ids) and waemitter.outside_window(o.channel, o.recipient, o.message_type, o.payload)
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- What applications call, inside their own transactions.

-- What is known against a message before it is queued: the status that it has at once, or NULL. It has its owner's rights,
-- since applications see neither opt-outs nor conversations. The claim looks again.
create or replace function waemitter.verdict(
  channel text, recipient text, message_type text, payload jsonb, category text, due timestamptz,
  out status text, out code integer, out reason text
) language plpgsql stable security definer set search_path = pg_catalog, pg_temp as $$
declare v_policy text;
begin
  if exists (select from waemitter.suppressions s
             where s.address = waemitter.address(recipient) and coalesce(s.channel, verdict.channel) = verdict.channel
               and waemitter.opt_out_concerns(s.scope, verdict.channel, category, message_type, payload)) then
    status := 'suppressed';
    reason := 'the recipient has opted out (waemitter.suppressions)';
    return;
  end if;
  select c.window_policy into v_policy from waemitter.channels c where c.name = verdict.channel;
  if v_policy <> 'send' and (due is null or due <= clock_timestamp())
     and not (v_policy = 'template' and payload ? 'fallback_template')
     and waemitter.outside_window(channel, recipient, message_type, payload) then
    status := 'failed';
    code := 131047;
    reason := 'more than 24 hours since the recipient last wrote: only a template may be sent';
  end if;
end $$;

-- Enqueue any message. Returns the row's id; when the idempotency_key is known already, the id of the first row. A recipient
-- who has opted out gets a row all the same, which is `suppressed` from the start.
create or replace function waemitter.send_message(
  recipient text, message_type text, payload jsonb,
  channel text default 'default', idempotency_key text default null, available_at timestamptz default null,
  expires_at timestamptz default null, priority integer default 0, ordering_key text default null,
  correlation_id text default null, campaign_id bigint default null, max_attempts integer default null,
  category text default null, traceparent text default null
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint; v record;
begin
  select * into v from waemitter.verdict(channel, recipient, message_type, payload, category, available_at);
  insert into waemitter.outbox_messages as o
    (recipient, message_type, payload, channel, idempotency_key, available_at, expires_at, priority, ordering_key,
     correlation_id, campaign_id, max_attempts, category, traceparent, status, error_code, error_message, failed_at)
  values (recipient, message_type, payload, channel, idempotency_key,
          case when v.status is null then coalesce(available_at, clock_timestamp()) end,
          expires_at, priority, ordering_key, correlation_id, campaign_id, max_attempts, category, traceparent,
          coalesce(v.status, 'queued'), v.code, v.reason, case when v.status = 'failed' then clock_timestamp() end)
  on conflict do nothing returning o.id into v_id;
  if v_id is not null and v.status is not null then
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    values (v_id, 'queued', v.status, jsonb_build_object('reason', v.reason, 'by', 'enqueue'));
  elsif v_id is null then
    select o.id into v_id from waemitter.outbox_messages o where o.idempotency_key = send_message.idempotency_key;
    if v_id is null then  -- row level security hides the first row: to say nothing would lose this one
      raise exception 'idempotency_key % belongs to a message of another role', idempotency_key using errcode = 'unique_violation';
    end if;
  end if;
  return v_id;
end $$;

create or replace function waemitter.send_text(
  recipient text, body text,
  channel text default 'default', idempotency_key text default null, available_at timestamptz default null,
  expires_at timestamptz default null, priority integer default 0, ordering_key text default null,
  correlation_id text default null, preview_url boolean default null, category text default null,
  traceparent text default null
) returns bigint language sql as $$
  select waemitter.send_message(recipient, 'text',
    jsonb_build_object('text', jsonb_strip_nulls(jsonb_build_object('body', body, 'preview_url', preview_url))),
    channel, idempotency_key, available_at, expires_at, priority, ordering_key, correlation_id, category => category,
    traceparent => traceparent)
$$;

-- parameters: ["17", "Ada"] fills the body's {{1}}, {{2}}; {"order": "17"} fills named ones; an array of objects that have
-- a "type" of header, body, button, … is taken as Meta's components, whole.
create or replace function waemitter.send_template(
  recipient text, template text, language text, parameters jsonb default '[]',
  channel text default 'default', idempotency_key text default null, available_at timestamptz default null,
  expires_at timestamptz default null, priority integer default 0, ordering_key text default null,
  correlation_id text default null, category text default null, traceparent text default null
) returns bigint language sql as $$
  select waemitter.send_message(recipient, 'template', jsonb_build_object('template', jsonb_build_object(
      'name', template, 'language', jsonb_build_object('code', language),
      'components', case
        when jsonb_typeof(parameters) = 'object' and parameters <> '{}' then jsonb_build_array(jsonb_build_object(
          'type', 'body', 'parameters', (select jsonb_agg(jsonb_build_object(
            'type', 'text', 'parameter_name', p.key, 'text', p.value)) from jsonb_each_text(parameters) p)))
        when parameters is null or jsonb_typeof(parameters) <> 'array' or parameters = '[]' then '[]'::jsonb
        when jsonb_typeof(parameters -> 0) = 'object' then parameters
        else jsonb_build_array(jsonb_build_object(
          'type', 'body', 'parameters', (select jsonb_agg(jsonb_build_object('type', 'text', 'text', p.value))
                                         from jsonb_array_elements_text(parameters) p))) end)),
    channel, idempotency_key, available_at, expires_at, priority, ordering_key, correlation_id, category => category,
    traceparent => traceparent)
$$;

-- Wake the first parked row of each lane that the given rows belonged to, where the lane really came free. It waits for
-- nobody: a row that some transaction has locked is passed over for the next one, and the claim keeps their order.
create or replace function waemitter.wake_lanes(ids bigint[]) returns integer
language sql security definer set search_path = pg_catalog, pg_temp as $$
  with free as materialized (
    select d.channel, d.lane
    from (select distinct channel, lane from waemitter.outbox_messages where id = any (ids) and lane <> '') d
    cross join lateral (
      select b.id from waemitter.outbox_messages b
      where b.channel = d.channel and b.lane = d.lane and b.lane <> '' and b.available_at is not null and b.hold = 'lane'
      order by (b.claimed_at is null)::integer, b.id limit 1) n
    where not exists (
      select from waemitter.outbox_messages a
      where a.channel = d.channel and a.lane = d.lane and a.lane <> '' and a.available_at is not null
        and (a.claimed_at is null)::integer = 0 and a.id <> n.id and (a.hold is null or a.hold in ('lane', 'pair')))),
  locked as materialized (
    select n.id from free d cross join lateral (
      select b.id from waemitter.outbox_messages b
      where b.channel = d.channel and b.lane = d.lane and b.lane <> '' and b.available_at is not null and b.hold = 'lane'
      order by (b.claimed_at is null)::integer, b.id limit 1 for no key update skip locked) n),
  woken as (
    update waemitter.outbox_messages o set available_at = coalesce(o.due_at, clock_timestamp()), hold = null, due_at = null
    from locked where o.id = locked.id and o.hold = 'lane' returning o.id)
  select count(*)::integer from woken
$$;

-- True when it took effect: the message will not be sent. False: too late, or no such message.
create or replace function waemitter.cancel_message(id bigint) returns boolean language plpgsql as $$
#variable_conflict use_column
declare v_from text; v_campaign bigint;
begin
  select status, campaign_id into v_from, v_campaign from waemitter.outbox_messages o
    where o.id = cancel_message.id and (status = 'queued' or hold = 'unconfirmed') for no key update;
  if not found then return false; end if;
  update waemitter.outbox_messages o set status = 'cancelled', available_at = null, hold = null
    where o.id = cancel_message.id;
  insert into waemitter.outbox_transitions (message_id, from_status, to_status) values (cancel_message.id, v_from, 'cancelled');
  if v_campaign is not null then
    insert into waemitter.campaign_changes (campaign_id, was, became) values (v_campaign, v_from, 'cancelled');
  end if;
  perform waemitter.wake_lanes(array[cancel_message.id]);
  return true;
end $$;

-- True when it took effect: a message that ended without being sent (or is held as unconfirmed) is queued once more, with
-- a fresh budget of attempts. False: it is still in the queue, was sent, or does not exist.
create or replace function waemitter.retry_message(id bigint) returns boolean language plpgsql as $$
#variable_conflict use_column
declare v_row waemitter.outbox_messages;
begin
  select * into v_row from waemitter.outbox_messages o
    where o.id = retry_message.id
      and (status in ('failed', 'cancelled', 'expired', 'suppressed') or hold = 'unconfirmed') for no key update;
  if not found then return false; end if;
  if v_row.token is not null then
    insert into waemitter.outbox_attempts (message_id, token, whatsapp_message_id)
    values (v_row.id, v_row.token, v_row.whatsapp_message_id) on conflict do nothing;
  end if;
  update waemitter.outbox_messages o
    set status = 'queued', available_at = clock_timestamp(), hold = null, due_at = null, attempts = 0, claimed_at = null,
        whatsapp_message_id = null, error_code = null, error_message = null, sent_at = null, failed_at = null,
        expires_at = case when expires_at > clock_timestamp() then expires_at end
    where o.id = v_row.id;
  insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
  values (v_row.id, v_row.status, 'queued', jsonb_build_object('by', current_user));
  if v_row.campaign_id is not null then
    insert into waemitter.campaign_changes (campaign_id, was, became) values (v_row.campaign_id, v_row.status, 'queued');
  end if;
  update waemitter.dead_letters d set resolution_status = 'pending', retry_count = d.retry_count + 1
    where d.message_id = v_row.id and d.direction = 'outbound';
  return true;
end $$;

-- True when it took effect. An outbound letter's message is queued once more; an inbound one is due now, with all its retries
-- if it had used them up.
create or replace function waemitter.retry_letter(id bigint) returns boolean language plpgsql as $$
#variable_conflict use_column
declare v_letter waemitter.dead_letters;
begin
  select * into v_letter from waemitter.dead_letters d where d.id = retry_letter.id and d.resolution_status <> 'resolved';
  if not found then return false; end if;
  if v_letter.direction = 'outbound' then return waemitter.retry_message(v_letter.message_id); end if;
  update waemitter.dead_letters d
    set resolution_status = 'pending', next_retry_at = clock_timestamp(),
        retry_count = case when d.resolution_status = 'pending' then d.retry_count else 0 end
    where d.id = v_letter.id and d.resolution_status <> 'resolved';
  return found;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Campaigns. A row of the outbox counts by its status alone: sent, delivered and read are each contained in the one before,
-- failed, suppressed, cancelled and expired stand beside them. So a correction (failed, then delivered after all) moves the
-- counters back, and a repetition moves nothing.

-- True when a change of status moves a counter: words of the queue are none.
create or replace function waemitter.counts(was text, became text) returns boolean language sql immutable parallel safe as $$
  select was <> became and not (was in ('queued', 'sending', 'unconfirmed') and became in ('queued', 'sending', 'unconfirmed'))
$$;

-- Count what became of messages, and what others left in campaign_changes. Called at the end of a statement that changed
-- rows of the outbox, in its transaction. Locks campaigns, ids ascending, after the rows.
create or replace function waemitter.count_campaigns(campaign_ids bigint[], was text[], became text[]) returns void
language plpgsql
  set plan_cache_mode = force_generic_plan set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  perform from waemitter.campaigns c where c.id = any (campaign_ids) order by c.id for no key update;
  with gone as (
    delete from waemitter.campaign_changes d where d.campaign_id = any (campaign_ids)
    returning d.campaign_id, d.was, d.became, d.n),
  changes as (
    select campaign_id, was, became, n from gone
    union all
    select g.id, g.was, g.became, 1 from unnest(campaign_ids, count_campaigns.was, count_campaigns.became) as g (id, was, became)
    where g.was is not null or g.became is not null),
  steps as (
    select campaign_id, became as word, n from changes where became is not null
    union all
    select campaign_id, was, -n from changes where was is not null),
  sums as (
    select campaign_id, sum(n) filter (where word not in ('clicked', 'replied')) as total,
      sum(n) filter (where word in ('sent', 'delivered', 'read')) as sent,
      sum(n) filter (where word in ('delivered', 'read')) as delivered, sum(n) filter (where word = 'read') as read,
      sum(n) filter (where word = 'failed') as failed, sum(n) filter (where word = 'suppressed') as suppressed,
      sum(n) filter (where word = 'cancelled') as cancelled, sum(n) filter (where word = 'expired') as expired,
      sum(n) filter (where word = 'clicked') as clicked, sum(n) filter (where word = 'replied') as replied
    from steps group by campaign_id)
  update waemitter.campaigns c set
    total = c.total + coalesce(s.total, 0), sent = c.sent + coalesce(s.sent, 0),
    delivered = c.delivered + coalesce(s.delivered, 0), read = c.read + coalesce(s.read, 0),
    failed = c.failed + coalesce(s.failed, 0), suppressed = c.suppressed + coalesce(s.suppressed, 0),
    cancelled = c.cancelled + coalesce(s.cancelled, 0), expired = c.expired + coalesce(s.expired, 0),
    clicked = c.clicked + coalesce(s.clicked, 0), replied = c.replied + coalesce(s.replied, 0)
  from sums s where c.id = s.campaign_id;
  -- the status follows from the counters: complete when every message has its outcome, and not so when more came
  update waemitter.campaigns c set
    status = case when waemitter.campaign_open(c) then 'running' else 'completed' end,
    started_at = coalesce(c.started_at, clock_timestamp()),
    completed_at = case when not waemitter.campaign_open(c) then clock_timestamp() end
  where c.id = any (campaign_ids)
    and ((c.status = 'completed' and waemitter.campaign_open(c))
         or (c.status = 'running' and c.total > 0 and not waemitter.campaign_open(c))
         or (c.status = 'scheduled' and c.starts_at <= clock_timestamp()));
end $$;

-- True while some message of it has no outcome yet.
create or replace function waemitter.campaign_open(c waemitter.campaigns) returns boolean language sql immutable as $$
  select c.sent + c.failed + c.suppressed + c.cancelled + c.expired < c.total
$$;

-- Take along what nobody has counted yet. Returns for how many campaigns.
create or replace function waemitter.count_changes() returns integer language plpgsql as $$
declare v_ids bigint[];
begin
  select array_agg(distinct campaign_id order by campaign_id) into v_ids from waemitter.campaign_changes;
  if v_ids is null then return 0; end if;
  perform waemitter.count_campaigns(v_ids, '{}', '{}');
  return cardinality(v_ids);
end $$;

-- Add to the totals what is older than the rate's minute. One at a time: what another does is done.
create or replace function waemitter.fold_counts() returns void language plpgsql as $$
begin
  if not pg_try_advisory_xact_lock(1463895373, 'waemitter.outbox_totals'::regclass::oid::integer) then return; end if;
  with gone as (
    delete from waemitter.outbox_counts c where c.at < clock_timestamp() - interval '2 minutes'
    returning c.sent, c.delivered, c.read, c.failed),
  sums as (
    select sum(sent) as sent, sum(delivered) as delivered, sum(read) as read, sum(failed) as failed
    from gone having count(*) > 0)
  insert into waemitter.outbox_totals as t (sent, delivered, read, failed) select s.sent, s.delivered, s.read, s.failed from sums s
  on conflict (id) do update set sent = t.sent + excluded.sent, delivered = t.delivered + excluded.delivered,
    read = t.read + excluded.read, failed = t.failed + excluded.failed;
end $$;

-- Count a campaign anew from its rows: after an operator's own UPDATE or DELETE, which nobody counts.
create or replace function waemitter.recount_campaign(id bigint) returns boolean language plpgsql as $$
#variable_conflict use_column
begin
  perform from waemitter.campaigns c where c.id = recount_campaign.id for no key update;
  if not found then return false; end if;
  with gone as (delete from waemitter.campaign_changes d where d.campaign_id = recount_campaign.id),
  counted as (
    select count(*) as total, count(*) filter (where status in ('sent', 'delivered', 'read')) as sent,
      count(*) filter (where status in ('delivered', 'read')) as delivered, count(*) filter (where status = 'read') as read,
      count(*) filter (where status = 'failed') as failed, count(*) filter (where status = 'suppressed') as suppressed,
      count(*) filter (where status = 'cancelled') as cancelled, count(*) filter (where status = 'expired') as expired,
      count(clicked_at) as clicked, count(replied_at) as replied
    from waemitter.outbox_messages o where o.campaign_id = recount_campaign.id)
  update waemitter.campaigns c set total = n.total, sent = n.sent, delivered = n.delivered, read = n.read, failed = n.failed,
      suppressed = n.suppressed, cancelled = n.cancelled, expired = n.expired, clicked = n.clicked, replied = n.replied
    from counted n where c.id = recount_campaign.id;
  perform waemitter.count_campaigns(array[recount_campaign.id], '{}', '{}');
  return true;
end $$;

-- The first moment, not before `at`, at which the recipient's clock shows no quiet hour.
create or replace function waemitter.awake(at timestamptz, zone text, quiet_from time, quiet_until time) returns timestamptz
language sql immutable parallel safe as $$
  select case when (quiet_from < quiet_until and l.at::time >= quiet_from and l.at::time < quiet_until)
                or (quiet_from > quiet_until and l.at::time < quiet_until)
              then (l.at::date + quiet_until) at time zone coalesce(zone, 'UTC')
              when quiet_from > quiet_until and l.at::time >= quiet_from
              then (l.at::date + 1 + quiet_until) at time zone coalesce(zone, 'UTC')
              else awake.at end
  from (select awake.at at time zone coalesce(zone, 'UTC') as at) l
$$;

-- The zones that this server knows, of those given.
create or replace function waemitter.known_zones(zones text[]) returns text[] language plpgsql stable as $$
declare v_zone text; v_known text[] := '{}';
begin
  for v_zone in select distinct z from unnest(zones) z where z is not null loop
    begin
      perform now() at time zone v_zone;
      v_known := v_known || v_zone;
    exception when invalid_parameter_value then null;
    end;
  end loop;
  return v_known;
end $$;

-- Write messages of a campaign into the outbox, many at once: frozen as they are now, once for each recipient however often
-- it is called. A draft's wait for start_campaign(). `zones`: the recipients' time zones, for quiet hours; may be NULL.
create or replace function waemitter.enqueue_campaign(
  campaign bigint, message_type text, recipients text[], payloads text[], zones text[] default null,
  out queued integer, out suppressed integer, out duplicates integer
) language plpgsql as $$
#variable_conflict use_column
declare v_c waemitter.campaigns; v_at timestamptz; v_known text[]; v_suppressed boolean;
begin
  select * into v_c from waemitter.campaigns c where c.id = enqueue_campaign.campaign;
  if not found then
    raise exception 'there is no campaign %', campaign using errcode = 'no_data_found';
  elsif v_c.status = 'cancelled' then
    raise exception 'campaign % is cancelled', campaign using errcode = 'object_not_in_prerequisite_state';
  end if;
  v_at := greatest(clock_timestamp(), v_c.starts_at);
  v_suppressed := exists (select from waemitter.suppressions);
  if v_c.quiet_from is not null then v_known := waemitter.known_zones(zones); end if;
  with clocks as materialized (  -- once for each zone, not for each row
    select z.zone, waemitter.awake(v_at, nullif(z.zone, ''), v_c.quiet_from, v_c.quiet_until) as at
    from unnest(array[''] || v_known) as z (zone)),
  given as materialized (
    select g.*, v_suppressed and exists (
        select from waemitter.suppressions s
        where s.address = g.address and coalesce(s.channel, v_c.channel) = v_c.channel
          and waemitter.opt_out_concerns(s.scope, v_c.channel, v_c.category, enqueue_campaign.message_type, g.payload)) as opted_out
    from (select u.recipient, coalesce(u.payload::jsonb, payloads[1]::jsonb) as payload, waemitter.address(u.recipient) as address,
            case when u.zone = any (v_known) then u.zone end as zone, u.n
          from unnest(recipients, payloads, zones) with ordinality as u (recipient, payload, zone, n) offset 0) g),
  dated as (
    select g.*, k.at from given g join clocks k on k.zone = coalesce(g.zone, '') order by g.n),
  put as (
    insert into waemitter.outbox_messages
      (campaign_id, channel, recipient, message_type, payload, priority, max_attempts, expires_at, ordering_key, time_zone,
       category, idempotency_key, status, available_at, hold, due_at, error_message)
    select v_c.id, v_c.channel, d.recipient, enqueue_campaign.message_type, d.payload, v_c.priority, v_c.max_attempts,
      v_c.expires_at, '', d.zone, v_c.category, 'campaign:' || v_c.id || ':' || d.address,
      case when d.opted_out then 'suppressed' else 'queued' end,
      case when d.opted_out then null when v_c.status = 'draft' then 'infinity' else d.at end,
      case when v_c.status = 'draft' and not d.opted_out then 'campaign:' || v_c.id end,
      case when v_c.status = 'draft' and not d.opted_out then d.at end,
      case when d.opted_out then 'the recipient opted out' end
    from dated d
    on conflict (idempotency_key) where idempotency_key is not null do nothing returning status)
  select count(*) filter (where status = 'queued'), count(*) filter (where status = 'suppressed'),
         cardinality(recipients) - count(*)
    into queued, suppressed, duplicates from put;
  perform waemitter.count_campaigns(array[v_c.id], '{}', '{}');
end $$;

-- What an operator does to a campaign. True when it took effect; false when its status does not allow it, or there is none.
-- The rows follow: release_holds('campaign:<id>', …) lets the parked ones of a started or resumed campaign go,
-- cancel_campaign_rows() ends those of a cancelled one; what they leave out, a claim or the sweep does.
create or replace function waemitter.start_campaign(id bigint) returns boolean language sql as $$
  with started as (
    update waemitter.campaigns c set status = case when c.starts_at > clock_timestamp() then 'scheduled' else 'running' end,
      started_at = case when c.starts_at > clock_timestamp() then c.started_at else coalesce(c.started_at, clock_timestamp()) end
    where c.id = start_campaign.id and c.status in ('draft', 'scheduled', 'running', 'completed') returning c.id),
  told as (select pg_notify('waemitter_outbox', '') from started)
  select count(*) > 0 from told
$$;

create or replace function waemitter.pause_campaign(id bigint) returns boolean language sql as $$
  with paused as (
    update waemitter.campaigns c set status = 'paused'
    where c.id = pause_campaign.id and c.status in ('scheduled', 'running') returning c.id)
  select count(*) > 0 from paused
$$;

create or replace function waemitter.resume_campaign(id bigint) returns boolean language sql as $$
  with resumed as (
    update waemitter.campaigns c set status = case when c.starts_at > clock_timestamp() then 'scheduled' else 'running' end
    where c.id = resume_campaign.id and c.status = 'paused' returning c.id),
  told as (select pg_notify('waemitter_outbox', '') from resumed)
  select count(*) > 0 from told
$$;

create or replace function waemitter.cancel_campaign(id bigint) returns boolean language sql as $$
  with cancelled as (
    update waemitter.campaigns c set status = 'cancelled', completed_at = clock_timestamp()
    where c.id = cancel_campaign.id and c.status not in ('cancelled', 'completed') returning c.id)
  select count(*) > 0 from cancelled
$$;

-- End messages of a cancelled campaign that have not left, at most so many; how many it ended.
create or replace function waemitter.cancel_campaign_rows(id bigint, max_rows integer default 5000) returns integer
language plpgsql as $$
#variable_conflict use_column
declare v_n integer; v_lanes bigint[];
begin
  perform set_config('waemitter.quiet', 'on', true);
  with locked as materialized (
    select o.id, o.status as was from waemitter.outbox_messages o
    where o.campaign_id = cancel_campaign_rows.id and o.available_at is not null
      and (o.status = 'queued' or o.hold = 'unconfirmed')
      and exists (select from waemitter.campaigns c where c.id = o.campaign_id and c.status = 'cancelled')
    order by o.id limit max_rows for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o set status = 'cancelled', available_at = null, hold = null,
      error_message = 'its campaign was cancelled'
    from locked where o.id = locked.id returning o.id, o.lane, locked.was),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select m.id, m.was, 'cancelled', '{"reason": "campaign"}' from moved m),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, was, became, n)
    select cancel_campaign_rows.id, m.was, 'cancelled', count(*) from moved m group by m.was)
  select count(*), array_agg(m.id) filter (where m.lane <> '') into v_n, v_lanes from moved m;
  if v_n > 0 then perform waemitter.count_campaigns(array[cancel_campaign_rows.id], '{}', '{}'); end if;
  if v_lanes is not null then perform waemitter.wake_lanes(v_lanes); end if;
  perform set_config('waemitter.quiet', '', true);
  return v_n;
end $$;

-- Customers answered: count it for the campaigns whose messages they answered, each message once. `wamids` are those that the
-- answers refer to (their context), or NULL: then it was the last campaign that wrote to the recipient, within 24 hours.
-- `clicks`: a button was tapped; that is a reply too. Returns the campaigns' ids.
create or replace function waemitter.campaign_replies(channels text[], recipients text[], wamids text[], clicks boolean[])
returns bigint[] language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare v_recent bigint[]; v_campaigns bigint[];
begin
  v_recent := array(select c.id from waemitter.campaigns c
                    where c.sent > 0 and (c.completed_at is null or c.completed_at > clock_timestamp() - interval '24 hours'));
  with given as materialized (
    select g.channel, waemitter.address(g.recipient) as address, g.wamid, g.click
    from unnest(channels, recipients, wamids, clicks) as g (channel, recipient, wamid, click)),
  found as materialized (
    select g.click, coalesce(named.id, older.id, latest.id) as id
    from given g
    left join lateral (select o.id from waemitter.outbox_messages o where o.whatsapp_message_id = g.wamid limit 1) named on true
    left join lateral (select a.message_id as id from waemitter.outbox_attempts a
      where named.id is null and a.whatsapp_message_id = g.wamid limit 1) older on true
    left join lateral (select o.id from unnest(v_recent) r (campaign_id) join waemitter.outbox_messages o
        on o.idempotency_key = format('campaign:%s:%s', r.campaign_id, g.address)
      where g.wamid is null and o.channel = g.channel and o.sent_at > clock_timestamp() - interval '24 hours'
      order by o.sent_at desc limit 1) latest on true),
  news as materialized (select id, bool_or(click) as click from found where id is not null group by id),
  locked as materialized (
    select o.id, n.click and o.clicked_at is null as click, o.replied_at is null as reply
    from news n join waemitter.outbox_messages o on o.id = n.id
    where o.campaign_id is not null and ((n.click and o.clicked_at is null) or o.replied_at is null)
    order by o.id for no key update of o),
  moved as (
    update waemitter.outbox_messages o set replied_at = coalesce(o.replied_at, clock_timestamp()),
      clicked_at = case when l.click then clock_timestamp() else o.clicked_at end
    from locked l where o.id = l.id returning o.campaign_id, l.click, l.reply),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, became, n)
    select campaign_id, 'clicked', count(*) from moved where click group by 1
    union all
    select campaign_id, 'replied', count(*) from moved where reply group by 1)
  select array_agg(distinct m.campaign_id order by m.campaign_id) into v_campaigns from moved m;
  if v_campaigns is not null then perform waemitter.count_campaigns(v_campaigns, '{}', '{}'); end if;
  return coalesce(v_campaigns, '{}');
end $$;

-- The same for one answer; the campaign's id, or NULL when it answers none or was counted before.
create or replace function waemitter.campaign_reply(
  channel text, recipient text, wamid text default null, clicked boolean default false
) returns bigint language sql as $$
  select (waemitter.campaign_replies(array[channel], array[recipient], array[wamid], array[clicked]))[1]
$$;

-- The upper bound of the bucket in which so many seconds are counted, NULL for the longest: counts of buckets can be added up
-- over hours, and a percentile read off them, which percentiles themselves do not allow.
create or replace function waemitter.seconds_bucket(seconds double precision) returns double precision language sql immutable as $$
  select (array[0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300]::float8[])[n]
  from width_bucket(greatest(seconds, 0), array[0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300]::float8[]) n
$$;

-- Count the last hours into service_metrics, the current one included; returns how many figures there are. Hours before those
-- stay as they were counted. A message counts in the hour in which it happened (UTC); one that was inserted more than eight
-- days before it left is not looked for.
create or replace function waemitter.refresh_analytics(hours integer default 48) returns integer language plpgsql as $$
declare
  v_from timestamptz := date_trunc('hour', clock_timestamp()) - make_interval(hours => refresh_analytics.hours);
  v_low bigint; v_high bigint; v_middle bigint; v_at timestamptz; v_n integer;
begin
  perform pg_advisory_xact_lock(1463895373, 'waemitter.service_metrics'::regclass::oid::integer);
  -- ids rise with created_at: the first row to look at is found by halving, not by a scan of all
  select coalesce(min(id), 0), coalesce(max(id), 0) + 1 into v_low, v_high from waemitter.outbox_messages;
  while v_low < v_high loop
    v_middle := v_low + (v_high - v_low) / 2;
    select o.created_at into v_at from waemitter.outbox_messages o where o.id >= v_middle order by o.id limit 1;
    if v_at < v_from - interval '8 days' then v_low := v_middle + 1; else v_high := v_middle; end if;
  end loop;
  delete from waemitter.service_metrics m where m.hour >= v_from and m.name in (
    'messages_enqueued', 'messages_sent', 'messages_delivered', 'messages_read', 'messages_failed', 'messages_clicked',
    'messages_replied', 'messages_priced', 'webhooks_received', 'turns', 'turn_conversations', 'turn_takeovers', 'turn_seconds',
    'agent_turns', 'agent_handovers', 'agent_seconds', 'messages_arrived', 'turn_replies_sent', 'turn_replies_arrived',
    'agent_replies_sent', 'agent_replies_arrived');
  with seen as materialized (
    select o.channel, o.status, o.created_at, o.sent_at, o.delivered_at, o.read_at, o.failed_at, o.clicked_at, o.replied_at,
           o.error_code, o.pricing_category, o.billable,
           substring(o.idempotency_key from '^turn:([0-9]{1,18}):[0-9]+$')::bigint as turn_id  -- as commit_turn writes it
    from waemitter.outbox_messages o where o.id >= v_low),
  turns as materialized (
    select date_trunc('hour', b.processed_at) as hour, coalesce(b.route, 'none') as route, b.outcome, b.conversation_id,
           waemitter.seconds_bucket(extract(epoch from b.processed_at - b.closed_at)::float8) as le
    from waemitter.message_buffer b where b.processed_at >= v_from and b.status in ('completed', 'failed')),
  agents as materialized (
    select date_trunc('hour', s.started_at) as hour, s.agent, s.variant, s.outcome, s.handover,
           waemitter.seconds_bucket(s.latency_ms / 1000.0) as le
    from waemitter.agent_sessions s where s.started_at >= v_from and s.ended_at is not null),
  replies as materialized (
    select date_trunc('hour', s.sent_at) as hour, coalesce(b.route, 'none') as route, a.agent,
           case when s.delivered_at is null then '{sent}'::text[] else '{sent,arrived}' end as words
    from seen s join waemitter.message_buffer b on b.id = s.turn_id
    left join lateral (select x.agent from waemitter.agent_sessions x where x.turn_id = s.turn_id order by x.id desc limit 1) a on true
    where s.sent_at >= v_from),
  facts (hour, name, labels, value) as (
    select t.hour, 'turns', jsonb_build_object('route', t.route, 'outcome', t.outcome), count(*) from turns t
      group by t.hour, t.route, t.outcome
    union all
    select t.hour, 'turn_conversations', jsonb_build_object('route', t.route), count(distinct t.conversation_id) from turns t
      group by t.hour, t.route
    union all
    select t.hour, 'turn_seconds', jsonb_build_object('route', t.route, 'le', t.le), count(*) from turns t
      where t.outcome = 'answered' group by t.hour, t.route, t.le
    union all
    select date_trunc('hour', m.at), 'turn_takeovers', '{}'::jsonb, count(*)
      from waemitter.conversation_state_transitions m where m.at >= v_from and m.to_status = 'human' group by 1
    union all
    select a.hour, 'agent_turns', jsonb_build_object('agent', a.agent, 'variant', a.variant, 'outcome', a.outcome), count(*)
      from agents a group by a.hour, a.agent, a.variant, a.outcome
    union all
    select a.hour, 'agent_handovers', jsonb_build_object('agent', a.agent, 'variant', a.variant), count(*)
      from agents a where a.handover group by a.hour, a.agent, a.variant
    union all
    select a.hour, 'agent_seconds', jsonb_build_object('agent', a.agent, 'le', a.le), count(*)
      from agents a where a.outcome = 'answered' group by a.hour, a.agent, a.le
    union all
    select r.hour, 'turn_replies_' || w.word, jsonb_build_object('route', r.route), count(*)
      from replies r cross join unnest(r.words) as w (word) group by r.hour, r.route, w.word
    union all
    select r.hour, 'agent_replies_' || w.word, jsonb_build_object('agent', r.agent), count(*)
      from replies r cross join unnest(r.words) as w (word) where r.agent is not null group by r.hour, r.agent, w.word
    union all
    select date_trunc('hour', s.created_at), 'messages_enqueued', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.created_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.sent_at), 'messages_sent', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.sent_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.sent_at), 'messages_arrived', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.sent_at >= v_from and s.delivered_at is not null group by 1, s.channel
    union all
    select date_trunc('hour', s.delivered_at), 'messages_delivered', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.delivered_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.read_at), 'messages_read', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.read_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.failed_at), 'messages_failed', jsonb_build_object('channel', s.channel, 'code', s.error_code),
           count(*)
      from seen s where s.failed_at >= v_from and s.status = 'failed' group by 1, s.channel, s.error_code
    union all
    select date_trunc('hour', s.clicked_at), 'messages_clicked', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.clicked_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.replied_at), 'messages_replied', jsonb_build_object('channel', s.channel), count(*)
      from seen s where s.replied_at >= v_from group by 1, s.channel
    union all
    select date_trunc('hour', s.delivered_at), 'messages_priced',
           jsonb_build_object('channel', s.channel, 'category', s.pricing_category, 'billable', s.billable), count(*)
      from seen s where s.delivered_at >= v_from and s.pricing_category is not null
      group by 1, s.channel, s.pricing_category, s.billable
    union all
    select date_trunc('hour', w.created_at), 'webhooks_received', jsonb_build_object('source', w.source), count(*)
      from waemitter.webhook_logs w where w.created_at >= v_from group by 1, w.source
    union all
    select date_trunc('hour', clock_timestamp()), 'campaign_' || f.word, jsonb_build_object('campaign', c.id), f.n
      from waemitter.campaigns c cross join lateral (values ('total', c.total), ('sent', c.sent), ('delivered', c.delivered),
        ('read', c.read), ('failed', c.failed), ('clicked', c.clicked), ('replied', c.replied)) f (word, n)
      where c.status <> 'draft' and coalesce(c.completed_at, 'infinity') >= v_from)
  insert into waemitter.service_metrics (hour, name, labels, value) select f.hour, f.name, f.labels, f.value from facts f
  on conflict (hour, name, labels) do update set value = excluded.value;
  get diagnostics v_n = row_count;
  return v_n;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- What the daemon calls.

-- Each session keeps its plans, and one that was made while a table was all but empty is a bad one for a full table: it reads the
-- table from end to end, or the wrong one of two indexes that were as small. The next ANALYZE comes in a minute at best. So plans are
-- made anew once `grown` is four times as large as it was then, is far smaller, or was truncated (its file is another one).
create or replace function waemitter.outgrow_plans(grown regclass) returns void language plpgsql as $$
declare
  v_size bigint := greatest(pg_relation_size(grown), 32768);
  v_file text := pg_relation_filenode(grown);
  v_known text := 'waemitter.planned_' || grown::oid;
  v_then text[] := string_to_array(nullif(current_setting(v_known, true), ''), ' ');
begin
  if v_then is null or v_then[1] <> v_file or v_size not between v_then[2]::bigint / 16 and v_then[2]::bigint * 4 then
    discard plans;
    perform set_config(v_known, v_file || ' ' || v_size, false);
  end if;
end $$;

-- Claim what can be sent in the next `horizon`: each row returned is `sending`, counts an attempt, has its send slot, and a
-- lease. The bucket row is locked first and the rows are picked by later statements: a single statement is not serial, its
-- snapshot is older than its lock. The clock is read once, after the lock.
--
-- Always returns at least one row; one without message_id when nothing was claimed. On every row: `clock` (the server's, in
-- seconds since the epoch, as are the others), `next_due` (when to ask again at the latest; `clock` = at once; NULL =
-- nothing is waiting), `not_before` (to ask earlier is in vain: the slots are given out, or another daemon has the bucket),
-- `rate` (slots a second; 0 = no limit), `lost` (leases found to have run out), `resent` and `held` (unconfirmed
-- ones whose grace is over).
create or replace function waemitter.claim_messages(
  channel text, max_rows integer, lease interval, horizon interval, grace interval, policy text, retries integer
) returns table (
  message_id bigint, token bigint, recipient text, message_type text, payload jsonb, attempt smallint,
  max_attempts smallint, correlation_id text, slot double precision, due double precision,
  clock double precision, next_due double precision, not_before double precision, rate double precision,
  lost integer, resent integer, held integer
) language plpgsql
  -- the plans are cached while the table may still be empty: never let one be a scan of what is a million rows tomorrow
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_channel text := channel;
  v_tat timestamptz; v_rate float8; v_paused timestamptz; v_channel_policy text; v_seen boolean; v_asks boolean; v_told timestamptz;
  v_now timestamptz; v_token bigint; v_priority smallint; v_left integer; v_scan integer; v_tidied integer := 0;
  v_take bigint[]; v_due timestamptz[]; v_park bigint[]; v_sending bigint[]; v_unconfirmed bigint[]; v_expired bigint[]; v_n integer;
  v_ended bigint[] := '{}'; v_next timestamptz; v_first timestamptz; v_lost integer := 0; v_taken integer := 0;
  v_not_before timestamptz; v_held bigint[]; v_held_n integer := 0; v_resent_n integer := 0;
  v_simple boolean := true; v_retried boolean; v_orphans bigint[]; v_gone bigint[]; v_n_lost integer; v_again integer;
  v_waiting integer; v_moved integer;
  v_held_templates boolean; v_suppressions boolean; v_campaigns boolean; v_barred bigint[]; v_barriers text[]; v_paced integer;
  v_pair interval; v_pair_credit interval; v_pairs boolean; v_addresses text[]; v_debts timestamptz[];
  v_wait bigint[]; v_wait_until timestamptz[]; v_low timestamptz; v_low_priority smallint; v_lowest smallint; v_since timestamptz;
  v_most constant integer := 500;  -- rows, about, that one claim may park, re-date, end or resend
  v_few constant integer := 8;  -- rows at the most that are looked at in the simple way
  v_least constant integer := 50;  -- looked at together, also when that is more: one by one they would cost far more
begin
  select b.tat, waemitter.send_rate(c.messages_per_second, c.throttle, c.throttled_at, b.inbound, b.inbound_at, clock_timestamp()),
         c.paused_until, coalesce(c.unconfirmed_policy, claim_messages.policy),
         c.statuses_seen_at is not null, c.kind = 'chatwoot',
         case when c.statuses_seen_at > clock_timestamp() - interval '15 seconds'
                   and c.statuses_seen_at - c.statuses_until > grace then c.statuses_until end,
         nullif(c.pair_seconds, 0) * interval '1 second', (c.pair_burst - 1) * c.pair_seconds * interval '1 second',
         case when b.low_until > clock_timestamp() then b.low end, b.low_priority
    into v_tat, v_rate, v_paused, v_channel_policy, v_seen, v_asks, v_told, v_pair, v_pair_credit, v_low, v_low_priority
    from waemitter.channel_buckets b join waemitter.channels c on c.name = b.channel
    where b.channel = v_channel for no key update of b skip locked;
  v_now := clock_timestamp();
  clock := extract(epoch from v_now);
  if v_tat is null then
    if exists (select from waemitter.channel_buckets b where b.channel = v_channel) then  -- another daemon has it
      not_before := clock + 0.005; next_due := not_before;
    end if;
    return next; return;
  end if;
  if v_paused > v_now then
    next_due := extract(epoch from nullif(v_paused, 'infinity')); return next; return;
  end if;
  perform set_config('waemitter.quiet', 'on', true);
  select exists (select from waemitter.held_templates h where h.channel = v_channel),
         exists (select from waemitter.suppressions),
         exists (select from waemitter.campaigns c
                 where c.status not in ('running', 'completed') or c.messages_per_second is not null or c.quiet_from is not null),
         exists (select from waemitter.outbox_pairs p where p.channel = v_channel)
    into v_held_templates, v_suppressions, v_campaigns, v_pairs;
  v_tat := greatest(v_tat, v_now);
  v_left := max_rows;
  if v_rate > 0 then
    v_left := least(v_left, floor(extract(epoch from v_now + horizon - v_tat) * v_rate) + 1);
  end if;
  v_token := ('x' || right(replace(gen_random_uuid()::text, '-', ''), 16))::bit(64)::bigint;

  -- While some transaction holds an old snapshot, what left the queue stays in its index, and each claim would step over all of it.
  v_low_priority := coalesce(v_low_priority, 32767);
  v_low := coalesce(v_low, '-infinity');
  v_priority := coalesce(
    (select o.priority from waemitter.outbox_messages o
     where o.channel = v_channel and o.available_at >= v_low and o.priority >= v_low_priority order by o.priority desc limit 1),
    (select o.priority from waemitter.outbox_messages o
     where o.channel = v_channel and o.available_at is not null and o.priority < v_low_priority order by o.priority desc limit 1));
  while v_priority is not null loop
    v_since := case when v_priority < v_low_priority then '-infinity' else v_low end;
    v_scan := least(v_left, greatest(v_most - v_tidied, v_least));
    while v_left > 0 and v_tidied < v_most loop
      -- An idle daemon is woken for a few rows that nothing stands in the way of. To see that takes a third of the look at everything
      -- that might, which is long however few the rows. As few as they are, no exists(): it may be planned as a hash of a whole table.
      if v_simple then
        select coalesce(bool_and(d.free), true) and count(*) <= least(v_left, v_few) and count(*) = count(distinct d.address),
               coalesce(array_agg(d.id order by d.available_at, d.id), '{}'), array_agg(d.available_at order by d.available_at, d.id),
               count(*)
          into v_simple, v_take, v_due, v_n
          from (
            select o.id, o.available_at, waemitter.address(o.recipient) as address,
              o.status = 'queued' and o.claimed_at is null and o.token is null and o.hold is null
              and (o.expires_at is null or o.expires_at > v_now)
              and (o.campaign_id is null or not v_campaigns) and (o.message_type <> 'template' or not v_held_templates)
              and (not v_suppressions or (
                  select true from waemitter.suppressions s where s.address = waemitter.address(o.recipient) limit 1) is null)
              and (o.lane = '' or (
                  select true from waemitter.outbox_messages b
                  where b.channel = v_channel and b.lane = o.lane and b.lane <> '' and b.available_at is not null and b.id <> o.id
                  limit 1) is null)
              and (o.lane = '' or v_pair is null or (
                  select true from waemitter.outbox_messages l
                  where l.channel = v_channel and waemitter.address(l.recipient) = waemitter.address(o.recipient)
                    and l.available_at is null and l.lane <> '' and l.claimed_at > v_now - lease - v_pair
                  limit 1) is null)
              and (o.lane = '' or not v_pairs or (
                  select true from waemitter.outbox_pairs p
                  where p.channel = v_channel and p.address = waemitter.address(o.recipient)) is null) as free
            from waemitter.outbox_messages o
            where o.channel = v_channel and o.priority = v_priority and o.available_at is not null
              and o.available_at >= v_since and o.available_at <= v_now
            order by o.available_at, o.id limit v_few + 1 for no key update of o skip locked) d;
      end if;
      if not v_simple then
        with due as materialized (
          select o.id, o.lane, o.status, o.available_at, o.claimed_at is not null as started, o.expires_at,
            case when v_pair is not null and o.lane <> '' then waemitter.address(o.recipient) end as address,
            coalesce(
              case when v_suppressions and exists (select from waemitter.suppressions s
                  where s.address = waemitter.address(o.recipient) and coalesce(s.channel, v_channel) = v_channel
                    and waemitter.opt_out_concerns(s.scope, v_channel, o.category, o.message_type, o.payload))
                then 'suppressed' end,
              case when v_campaigns and o.campaign_id is not null then (
                select case when c.status = 'cancelled' then c.status
                            when c.status in ('running', 'completed') or (c.status = 'scheduled' and c.starts_at <= v_now) then
                              case when waemitter.awake(v_now, o.time_zone, c.quiet_from, c.quiet_until) > v_now then 'quiet' end
                            else 'campaign:' || c.id end
                from waemitter.campaigns c where c.id = o.campaign_id) end,
              case when v_held_templates and o.message_type = 'template' then (
                select 'template:' || h.template from waemitter.held_templates h
                where h.channel = v_channel and h.template in ('', o.payload #>> '{template,name}')
                  and h.language in ('', coalesce(o.payload #>> '{template,language,code}', ''))
                  and (h.until is null or h.until > v_now) limit 1) end,
              case when v_campaigns and o.campaign_id is not null and o.due_at is null and o.claimed_at is null then (
                select 'cap' from waemitter.campaigns c
                where c.id = o.campaign_id and c.messages_per_second is not null) end) as barrier
          from waemitter.outbox_messages o
          where o.channel = v_channel and o.priority = v_priority and o.available_at is not null
            and o.available_at >= v_since and o.available_at <= v_now
          order by o.available_at, o.id limit v_scan),
        checked as materialized (
          select d.id, d.available_at, d.started, d.lane, d.address, d.lane <> '' and (
            exists (select from waemitter.outbox_messages b
                    where b.channel = v_channel and b.lane = d.lane and b.lane <> '' and b.available_at is not null
                      and (b.claimed_at is null)::integer = 0 and b.id <> d.id and (b.hold is null or b.hold in ('lane', 'pair'))
                      and (not d.started or b.status <> 'queued' or b.id < d.id))
            or (not d.started and
              exists (select from waemitter.outbox_messages b
                    where b.channel = v_channel and b.lane = d.lane and b.lane <> '' and b.available_at is not null
                      and (b.claimed_at is null)::integer = 1 and b.id < d.id
                      and (b.available_at <= v_now or b.hold in ('lane', 'pair'))))) as blocked
          from due d where d.status = 'queued' and d.barrier is null and (d.expires_at is null or d.expires_at > v_now)),
        paired as materialized (  -- debt: when what was sent to the recipient is paid for; nth of several in this claim
          select c.id, c.available_at, c.address, coalesce(p.tat, l.tat) as debt, p.blocked_until,
            row_number() over (partition by c.address order by c.available_at, c.id) as nth,
            count(*) over (partition by c.address) as many
          from checked c
          left join lateral (select p.tat, p.blocked_until from waemitter.outbox_pairs p
            where v_pairs and p.channel = v_channel and p.address = c.address) p on true
          left join lateral (select coalesce(l.sent_at, l.claimed_at + horizon) + v_pair as tat from waemitter.outbox_messages l
            where p.tat is null and l.channel = v_channel and waemitter.address(l.recipient) = c.address
              and l.available_at is null and l.lane <> '' and l.claimed_at > v_now - lease - v_pair
              and coalesce(l.sent_at, l.claimed_at + horizon) > v_now - v_pair
            order by l.claimed_at desc limit 1) l on true
          where not c.blocked),
        timed as materialized (
          select p.id, p.available_at, p.address, p.debt, p.debt is not null or p.many > 1 as indebted,
            case when p.address is not null then greatest(p.blocked_until,
              case when p.nth = 1 then p.debt else greatest(p.debt, v_now) + (p.nth - 1) * v_pair end - v_pair_credit) end as ready_at
          from paired p),
        take as materialized (  -- limited behind the lock: rows that others have locked make room for the next
          select o.id, c.available_at as due, o.token is not null as retried, c.address, c.debt, c.indebted
          from timed c join waemitter.outbox_messages o on o.id = c.id
          where (c.ready_at is null or c.ready_at <= v_now) and o.status = 'queued' and o.available_at <= v_now
          order by c.available_at, o.id limit v_left for no key update of o skip locked),
        -- a row is parked only while the one it waits for is locked by us: whoever ends that one will see it parked
        park as materialized (
          select c.id, b.hold = 'lane' as orphan
          from checked c join waemitter.outbox_messages o on o.id = c.id cross join lateral (
            select b.id, b.hold from waemitter.outbox_messages b
            where b.channel = v_channel and b.lane = c.lane and b.lane <> '' and b.available_at is not null and b.id <> c.id
              and (b.hold is null or b.hold in ('lane', 'pair'))
              and (b.claimed_at is not null or (not c.started and b.id < c.id and (b.available_at <= v_now or b.hold in ('lane', 'pair'))))
            order by (b.claimed_at is null)::integer, b.id limit 1 for no key update skip locked) b
          where c.blocked and o.status = 'queued' and o.available_at <= v_now for no key update of o skip locked)
        select array(select id from take), array(select due from take), (select bool_or(retried) from take),
               array(select id from park), array(select id from park where orphan),
               array(select id from due where status = 'sending'), array(select id from due where status = 'unconfirmed'),
               array(select id from due where status = 'queued' and expires_at <= v_now),
               array(select id from due where status = 'queued' and barrier is not null
                                          and (expires_at is null or expires_at > v_now)),
               array(select barrier from due where status = 'queued' and barrier is not null
                                               and (expires_at is null or expires_at > v_now)),
               -- a twentieth more: one that travels faster than those before it must not arrive too early
               array(select id from timed where ready_at > v_now),
               array(select ready_at + v_pair / 20 from timed where ready_at > v_now),
               array(select address from take where address is not null and indebted),
               array(select debt from take where address is not null and indebted),
               (select count(*) from due)
          into v_take, v_due, v_retried, v_park, v_orphans, v_sending, v_unconfirmed, v_expired, v_barred, v_barriers,
               v_wait, v_wait_until, v_addresses, v_debts, v_n;
      end if;
      v_again := 0;
      v_moved := coalesce(cardinality(v_park), 0);

      if cardinality(v_take) > 0 then
        if v_retried then
          with before as materialized (
            select o.id, o.token, o.whatsapp_message_id, o.attempts, o.claimed_at from waemitter.outbox_messages o
            where o.id = any (v_take) and o.token is not null),
          kept as (
            insert into waemitter.outbox_attempts (message_id, token, whatsapp_message_id)
            select id, token, whatsapp_message_id from before on conflict do nothing)
          insert into waemitter.outbox_transitions (message_id, at, from_status, to_status, detail)
            select id, v_now, 'queued', 'sending', jsonb_build_object('attempt', attempts + 1) from before
            where claimed_at is not null;
        end if;
        perform set_config('waemitter.untold', 'on', true);  -- that they are being sent is counted and told by nobody
        return query
          update waemitter.outbox_messages o
          set status = 'sending', available_at = v_now + lease, due_at = o.available_at, hold = null, token = v_token,
              attempts = o.attempts + 1, claimed_at = v_now
          from unnest(v_take, v_due) with ordinality as t (id, due, n)
          where o.id = t.id
          returning o.id, o.token, o.recipient, o.message_type, o.payload, o.attempts, o.max_attempts,
            o.correlation_id,
            extract(epoch from v_tat + case when v_rate > 0 then (t.n - 1) * interval '1 second' / v_rate
                                            else interval '0' end)::float8,
            extract(epoch from t.due)::float8, extract(epoch from v_now)::float8,
            null::float8, null::float8, null::float8, null::integer, null::integer, null::integer;
        perform set_config('waemitter.untold', '', true);
        v_left := v_left - cardinality(v_take);
        v_taken := v_taken + cardinality(v_take);
        if v_rate > 0 then v_tat := v_tat + cardinality(v_take) * interval '1 second' / v_rate; end if;
        if cardinality(v_addresses) > 0 then
          insert into waemitter.outbox_pairs as p (channel, address, tat)
            select v_channel, s.address, greatest(max(s.debt), v_tat) + count(*) * v_pair
            from unnest(v_addresses, v_debts) as s (address, debt) group by s.address order by s.address
          on conflict on constraint outbox_pairs_pkey do update set tat = greatest(p.tat, excluded.tat);
        end if;
      end if;
      if cardinality(v_park) > 0 then
        update waemitter.outbox_messages o
          set available_at = 'infinity', hold = 'lane', due_at = case when o.hold = 'pair' then o.due_at else o.available_at end
          where o.id = any (v_park) and o.status = 'queued' and (o.hold is null or o.hold = 'pair');
      end if;
      if cardinality(v_wait) > 0 then
        v_moved := v_moved + waemitter.delay_messages(v_wait, v_wait_until, v_now);
      end if;
      if cardinality(v_sending) > 0 then
        v_n_lost := waemitter.lose_leases(v_sending, v_now, v_now + grace);
        v_lost := v_lost + v_n_lost;
        v_moved := v_moved + v_n_lost;
      end if;
      if cardinality(v_unconfirmed) > 0 then
        select g.held, g.again, g.waiting into v_held, v_again, v_waiting
          from waemitter.end_graces(v_unconfirmed, v_now, grace, v_channel_policy, v_seen, v_asks, v_told, retries) g;
        v_ended := v_ended || v_held;
        v_resent_n := v_resent_n + v_again;
        v_held_n := v_held_n + cardinality(v_held);
        v_moved := v_moved + v_again + v_waiting + cardinality(v_held);
      end if;
      if cardinality(v_expired) > 0 then
        v_gone := waemitter.expire_messages(v_expired, v_now);
        v_ended := v_ended || v_gone;
        v_moved := v_moved + cardinality(v_gone);
      end if;
      if cardinality(v_barred) > 0 then
        v_gone := waemitter.bar_messages(v_barred, v_barriers, v_now);
        v_ended := v_ended || v_gone;
        v_moved := v_moved + cardinality(v_gone);
        if 'cap' = any (v_barriers) then
          v_paced := waemitter.pace_messages(v_barred, v_barriers, v_now);
          v_again := v_again + v_paced;  -- they have their dates, and the first may be due at once
          v_moved := v_moved + v_paced;
        end if;
      end if;
      v_ended := v_ended || v_orphans;  -- parked behind one that is parked itself, and perhaps for nobody
      v_tidied := v_tidied + v_moved;
      -- rows that others have locked must not hide those behind them: look further, as far as v_most
      exit when (v_n < v_scan and v_again = 0)
        or (v_moved + cardinality(v_take) = 0 and v_scan >= v_most - v_tidied);
      v_scan := least(greatest(v_left * 2 + 50, v_scan * 2), greatest(v_most - v_tidied, v_least));
    end loop;

    select o.available_at into v_first from waemitter.outbox_messages o
      where o.channel = v_channel and o.priority = v_priority and o.available_at >= v_since
        and (v_left <= 0 or o.available_at > v_now or o.status = 'queued')
      order by o.available_at, o.id limit 1;
    v_lowest := v_priority;
    v_next := least(v_next, nullif(v_first, 'infinity'));
    exit when v_left <= 0 and v_next <= v_now;
    v_priority := coalesce(
      (select o.priority from waemitter.outbox_messages o
       where o.channel = v_channel and o.available_at >= v_low and o.priority >= v_low_priority and o.priority < v_lowest
       order by o.priority desc limit 1),
      (select o.priority from waemitter.outbox_messages o
       where o.channel = v_channel and o.available_at is not null and o.priority < least(v_lowest, v_low_priority)
       order by o.priority desc limit 1));
  end loop;

  if v_taken > 0 and v_rate > 0 then
    update waemitter.channel_buckets b set tat = v_tat where b.channel = v_channel;
  end if;
  -- A whole look took long: for ten times as long, five seconds at the most, claims begin where it found the first row. What is due
  -- earlier, yet was committed later, waits for the next whole look.
  if v_low = '-infinity' and v_tidied < v_most and clock_timestamp() - v_now
       > coalesce(nullif(current_setting('waemitter.slow_claim', true), '')::interval, interval '250 milliseconds') then
    update waemitter.channel_buckets b
      set low = least(v_now, v_next), low_priority = case when v_priority is null then -32768 else v_lowest end,
          low_until = clock_timestamp() + least(10 * (clock_timestamp() - v_now), interval '5 seconds')
      where b.channel = v_channel;
  end if;
  if v_tidied >= v_most then v_next := v_now; end if;
  if cardinality(v_ended) > 0 then perform waemitter.count_changes(); end if;
  if cardinality(v_ended) > 0 and waemitter.wake_lanes(v_ended) > 0 then v_next := v_now; end if;
  if v_rate > 0 and v_tat > v_now + horizon / 2 then v_not_before := v_tat - horizon / 2; end if;
  message_id := null;
  next_due := extract(epoch from v_next);
  not_before := extract(epoch from v_not_before);
  rate := v_rate;
  lost := v_lost; resent := v_resent_n; held := v_held_n;
  -- for the next claim; a quick one, of a message that comes alone above all, does not wait for it
  if v_taken = 0 or clock_timestamp() - v_now > interval '5 milliseconds' then
    perform waemitter.outgrow_plans('waemitter.outbox_messages');
  end if;
  perform set_config('waemitter.quiet', '', true);
  return next;
end $$;

-- Meta said 130429, in an answer or (`happened`: when, by its clock) in a webhook: the number, named by its channel or its id,
-- sends at 0.7 of its present rate, for all daemons, and slowly faster again. Once for all that was said of the same moment; what
-- is five minutes old has been made up for. The channel's row is written, never the bucket's, which belongs to the claims: a
-- transaction that applies statuses must not wait for it. Returns whether the rate was lowered.
create or replace function waemitter.throttle_channel(
  channel text default null, phone_number_id text default null, happened timestamptz default null
) returns boolean language sql as $$
  with lowered as (
    update waemitter.channels c
    set throttled_at = clock_timestamp(), throttle = greatest(0.1,
      0.7 * least(1, c.throttle + coalesce(extract(epoch from clock_timestamp() - c.throttled_at) / 300, 1)))
    where (c.name = throttle_channel.channel or c.phone_number_id = throttle_channel.phone_number_id)
      and (c.throttled_at is null
           or c.throttled_at < least(coalesce(happened, clock_timestamp()), clock_timestamp()) - interval '2 seconds')
      and (happened is null or happened > clock_timestamp() - interval '5 minutes')
    returning c.name)
  select exists (select from lowered)
$$;

-- So many inbound messages came in a second: that much of the limit is theirs for a minute. A lower peak is news only when
-- the last one is over, an equal one only after a while. Returns whether it was.
create or replace function waemitter.reserve_inbound(channel text, per_second double precision) returns boolean
language sql as $$
  with raised as (
    update waemitter.channel_buckets b set inbound = per_second, inbound_at = clock_timestamp()
    where b.channel = reserve_inbound.channel
      and (b.inbound_at is null or b.inbound_at < clock_timestamp() - interval '1 minute' or per_second > b.inbound
           or (per_second > 0.9 * b.inbound and b.inbound_at < clock_timestamp() - interval '20 seconds'))
    returning b.channel)
  select exists (select from raised)
$$;

-- Meta has upgraded the number (webhook phone_number_quality_update, THROUGHPUT_UPGRADE): it may send 1,000 a second, unless
-- a setting or an operator has given it a limit of its own. Returns whether the limit was raised.
create or replace function waemitter.upgrade_throughput(channel text, messages_per_second double precision default 1000)
returns boolean language sql as $$
  with raised as (
    update waemitter.channels c
    set messages_per_second = upgrade_throughput.messages_per_second, throttle = 1, throttled_at = null
    where c.name = upgrade_throughput.channel and not c.limit_is_set and c.messages_per_second = 80
    returning c.name)
  select exists (select from raised)
$$;

-- The lease ran out before an outcome came: the message may have left. The token stays: a late answer still counts.
create or replace function waemitter.lose_leases(ids bigint[], at timestamptz, until timestamptz) returns integer
language sql as $$
  with locked as materialized (
    select o.id from waemitter.outbox_messages o
    where o.id = any (ids) and o.status = 'sending' and o.available_at <= at order by o.id for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o set status = 'unconfirmed', available_at = until
    from locked where o.id = locked.id returning o.id, o.claimed_at),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select id, 'sending', 'unconfirmed',
           jsonb_build_object('reason', 'the lease ran out before an answer was stored', 'claimed_at', claimed_at)
    from moved)
  select count(*)::integer from moved
$$;

-- A daemon receives webhooks. `away`: for how long it did not, until now, be it that it has just started ('0') or that its
-- journal failed; NULL when all is well. A gap that nobody told is seen by the silence.
create or replace function waemitter.note_receiving(away interval) returns void language sql as $$
  insert into waemitter.inbox_health as h (id, seen_at, since, away_at)
  values (true, clock_timestamp(), clock_timestamp(), clock_timestamp())
  on conflict (id) do update set
    seen_at = excluded.seen_at,
    since = case when away is null and h.seen_at > excluded.seen_at - interval '15 seconds' then h.since else excluded.since end,
    away_at = case
      when away is null and h.seen_at > excluded.seen_at - interval '15 seconds' then h.away_at
      when h.seen_at is null then excluded.seen_at
      when h.seen_at < h.since + least(h.since - h.away_at, interval '10 minutes') then h.away_at
      else least(h.seen_at, excluded.seen_at - away) end
$$;

-- The grace is over: no status webhook came. But silence proves something only while webhooks could come, and once all that did
-- come have been worked on. Meta repeats what we did not take after waits that grow with the time for which it has failed: so
-- attempts from before a gap get another grace, which begins when Meta has caught up: after its end, and once more its length
-- (ten minutes at the most), since a wait may be a little longer than all the time before it. And Meta may be late by itself: while
-- statuses come in that are older than the grace, and the latest event they tell of (`told`; NULL = Meta is not late) lies before
-- the end of the wait, Meta has not come so far (ten minutes at the most). Then `retry` sends once more, if attempts are left
-- and this channel's statuses are known to reach us at all; else the row is held, and its lane goes on. Where there are no statuses
-- and `asks`, since whoever makes the next attempt asks first whether one arrived, the grace is all. Returns the ids of those held,
-- how many are sent once more, how many wait on.
create or replace function waemitter.end_graces(
  ids bigint[], at timestamptz, grace interval, policy text, seen boolean, asks boolean, told timestamptz, retries integer,
  out held bigint[], out again integer, out waiting integer
) language sql as $$
  with health as materialized (
    select h.seen_at > at - interval '15 seconds' as receiving, h.since,
           h.since + least(h.since - h.away_at, interval '10 minutes') + grace as caught_up,
           (select min(w.created_at) from waemitter.webhook_logs w
            where w.available_at is not null and w.source = 'whatsapp') as unprocessed
    from waemitter.inbox_health h),
  locked as materialized (
    select o.id, (asks or seen and coalesce(o.unconfirmed_policy, policy) = 'retry')
                 and o.attempts <= coalesce(o.max_attempts, retries) as again,
           case when asks then null
                when h.receiving is not true or h.unprocessed <= o.available_at then at + interval '1 second'
                when o.claimed_at < h.since and h.caught_up > at then h.caught_up
                when end_graces.told < g.over and at < g.over + interval '10 minutes' then at + interval '1 second' end as wait_until
    from waemitter.outbox_messages o left join health h on true
      cross join lateral (select greatest(o.claimed_at + grace, case when o.claimed_at < h.since then h.caught_up end) as over) g
    where o.id = any (ids) and o.status = 'unconfirmed' and o.available_at <= at
    order by o.id for no key update of o skip locked),
  moved as (
    update waemitter.outbox_messages o
    set status = case when wait_until is null and again then 'queued' else 'unconfirmed' end,
        available_at = case when wait_until is not null then wait_until when again then at else 'infinity' end,
        hold = case when wait_until is null and not again then 'unconfirmed' end
    from locked where o.id = locked.id returning o.id, again, wait_until is not null as waits),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select id, 'unconfirmed', case when again then 'queued' else 'unconfirmed' end,
           jsonb_build_object('reason', case when asks then 'it is asked for before it is sent again'
                              else 'no status webhook within the grace period' end, 'held', not again)
    from moved where not waits)
  select coalesce(array_agg(id) filter (where not waits and not again), '{}'),
         count(*) filter (where not waits and again)::integer, count(*) filter (where waits)::integer from moved
$$;

create or replace function waemitter.expire_messages(ids bigint[], at timestamptz) returns bigint[]
language sql as $$
  with locked as materialized (
    select o.id from waemitter.outbox_messages o
    where o.id = any (ids) and o.status = 'queued' and o.expires_at <= at order by o.id for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o set status = 'expired', available_at = null, hold = null,
      error_message = 'expires_at passed before it could be sent'
    from locked where o.id = locked.id returning o.id, o.campaign_id),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status) select id, 'queued', 'expired' from moved),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, was, became, n)
    select campaign_id, 'queued', 'expired', count(*) from moved where campaign_id is not null group by 1)
  select coalesce(array_agg(id), '{}') from moved
$$;

-- Due rows that a barrier concerns: ended when it says `suppressed` or `cancelled`, parked when it names a template or a
-- campaign. Returns the ids: their lanes go on.
create or replace function waemitter.bar_messages(ids bigint[], barriers text[], at timestamptz) returns bigint[]
language sql as $$
  with locked as materialized (
    select o.id, o.status as was, b.barrier, b.barrier in ('suppressed', 'cancelled') as ends,
      case when b.barrier = 'quiet' then waemitter.awake(at, o.time_zone, c.quiet_from, c.quiet_until) end as awake
    from unnest(ids, barriers) as b (id, barrier) join waemitter.outbox_messages o on o.id = b.id
      left join waemitter.campaigns c on c.id = o.campaign_id
    where b.barrier <> 'cap' and o.status = 'queued' and o.available_at <= at order by o.id for no key update of o skip locked),
  moved as (
    update waemitter.outbox_messages o set
      status = case when l.ends then l.barrier else o.status end,
      available_at = case when not l.ends then coalesce(l.awake, 'infinity'::timestamptz) end,
      due_at = case when l.awake is null then coalesce(o.due_at, o.available_at) else o.due_at end,
      hold = case when not l.ends and l.awake is null then l.barrier end,
      error_message = case l.barrier when 'suppressed' then 'the recipient has opted out (waemitter.suppressions)'
                                     when 'cancelled' then 'its campaign was cancelled' else o.error_message end
    from locked l where o.id = l.id returning o.id, o.campaign_id, l.was, o.status, l.ends),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status) select id, was, status from moved where ends),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, was, became, n)
    select campaign_id, was, status, count(*) from moved where ends and campaign_id is not null group by 1, 2, 3)
  select coalesce(array_agg(id), '{}') from moved
$$;

-- Due rows that must wait for their recipient's pair limit get the dates at which they may go. Returns how many.
create or replace function waemitter.delay_messages(ids bigint[], untils timestamptz[], at timestamptz) returns integer
language sql as $$
  with locked as materialized (
    select o.id, w.until from unnest(ids, untils) as w (id, until) join waemitter.outbox_messages o on o.id = w.id
    where o.status = 'queued' and o.available_at <= at order by o.id for no key update of o skip locked),
  moved as (
    update waemitter.outbox_messages o
    set available_at = l.until, hold = 'pair', due_at = case when o.hold = 'pair' then o.due_at else o.available_at end
    from locked l where o.id = l.id returning o.id)
  select count(*)::integer from moved
$$;

-- Meta refused these with 131056: their recipients alone wait 4^n seconds (Meta's advice), n counted since the last success,
-- at most 1,024; from then on Meta's credit counts as spent. A message is queued again with that date.
create or replace function waemitter.strike_pairs(ids bigint[], at timestamptz) returns void language sql as $$
  insert into waemitter.outbox_pairs as p (channel, address, tat, strikes, struck_at, blocked_until)
    select distinct o.channel, waemitter.address(o.recipient), at + (c.pair_burst - 1) * c.pair_seconds * interval '1 second',
      1, at, at + interval '1 second'
    from waemitter.outbox_messages o join waemitter.channels c on c.name = o.channel
    where o.id = any (ids) and o.status = 'queued' order by 1, 2
  on conflict on constraint outbox_pairs_pkey do update set
    tat = excluded.tat, struck_at = at,  -- the refused one does not count
    (strikes, blocked_until) = (
      select n.strikes, at + power(4, n.strikes - 1) * interval '1 second'
      from (select case when exists (
        select from waemitter.outbox_messages o
        where o.channel = p.channel and waemitter.address(o.recipient) = p.address and o.available_at is null
          and o.lane <> '' and o.claimed_at > p.struck_at and o.sent_at is not null)
        then 1 else least(p.strikes + 1, 6) end as strikes) n);
  update waemitter.outbox_messages o
  set available_at = greatest(o.available_at, p.blocked_until), hold = 'pair'
  from waemitter.outbox_pairs p
  where o.id = any (ids) and o.status = 'queued' and p.channel = o.channel and p.address = waemitter.address(o.recipient)
$$;

-- Give due rows of capped campaigns their slots, as dates, once for each row (due_at marks it): so they never hide others.
create or replace function waemitter.pace_messages(ids bigint[], barriers text[], at timestamptz) returns integer
language plpgsql as $$
declare v_paced integer;
begin
  insert into waemitter.campaign_buckets (campaign_id)
    select distinct o.campaign_id from unnest(ids, barriers) as b (id, barrier) join waemitter.outbox_messages o on o.id = b.id
    where b.barrier = 'cap' order by 1 on conflict do nothing;
  with locked as materialized (
    select o.id, o.campaign_id, o.available_at
    from unnest(ids, barriers) as b (id, barrier) join waemitter.outbox_messages o on o.id = b.id
    where b.barrier = 'cap' and o.status = 'queued' and o.available_at <= at order by o.id for no key update of o skip locked),
  asked as materialized (select campaign_id, count(*) as n from locked group by 1 order by 1),
  buckets as materialized (
    select b.campaign_id, greatest(b.tat, at) as tat, interval '1 second' / c.messages_per_second as apart, a.n
    from asked a join waemitter.campaign_buckets b on b.campaign_id = a.campaign_id
      join waemitter.campaigns c on c.id = a.campaign_id
    where c.messages_per_second is not null order by b.campaign_id for no key update of b),
  spent as (
    update waemitter.campaign_buckets b set tat = g.tat + g.n * g.apart from buckets g where b.campaign_id = g.campaign_id),
  dated as (
    select l.id, g.tat + (row_number() over (partition by l.campaign_id order by l.available_at, l.id) - 1) * g.apart as slot
    from locked l join buckets g on g.campaign_id = l.campaign_id),
  moved as (
    update waemitter.outbox_messages o set available_at = d.slot, due_at = o.available_at from dated d where o.id = d.id
    returning o.id)
  select count(*) into v_paced from moved;
  return v_paced;
end $$;

-- Let rows go that are held by one barrier (`template:<name>`, `campaign:<id>`), the oldest first, each with its own due
-- time; those still concerned are parked again by the next claim. Returns how many went: fewer than max_rows = all.
create or replace function waemitter.release_holds(hold text, max_rows integer default 1000, channel text default null)
returns integer language sql as $$
  with locked as materialized (
    select o.id from waemitter.outbox_messages o
    where o.available_at = 'infinity' and o.hold <> 'lane' and o.hold = release_holds.hold and o.status = 'queued'
      and (release_holds.channel is null or o.channel = release_holds.channel)
    order by o.id limit max_rows for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o
    set available_at = coalesce(o.due_at, clock_timestamp()), due_at = null, hold = null
    from locked where o.id = locked.id returning o.id)
  select count(*)::integer from moved
$$;

-- Messages of a template wait from now on, until it is released or until its time; language '' = every language.
create or replace function waemitter.hold_template(
  channel text, template text, language text default '', reason text default null, until timestamptz default null
) returns void language sql as $$
  insert into waemitter.held_templates (channel, template, language, reason, until)
  values (channel, template, coalesce(language, ''), reason, until)
  on conflict on constraint held_templates_pkey do update set reason = excluded.reason, until = excluded.until
$$;

-- The template may be sent again. Returns how many held messages go on.
create or replace function waemitter.release_template(channel text, template text, language text default '')
returns integer language plpgsql as $$
declare v_freed integer := 0; v_n integer;
begin
  delete from waemitter.held_templates h
    where h.channel = release_template.channel and h.template = release_template.template
      and (coalesce(release_template.language, '') = '' or h.language = release_template.language);
  loop
    v_n := waemitter.release_holds(hold => 'template:' || release_template.template, max_rows => 1000,
                                   channel => release_template.channel);
    v_freed := v_freed + v_n;
    exit when v_n < 1000;
  end loop;
  return v_freed;
end $$;

-- The template can never be sent: its queued and held messages fail. Returns how many.
create or replace function waemitter.fail_template(
  channel text, template text, language text default '', code integer default null, reason text default null
) returns integer language plpgsql as $$
declare v_failed bigint[];
begin
  with locked as materialized (
    select o.id, o.hold from waemitter.outbox_messages o
    where o.channel = fail_template.channel and o.available_at is not null and o.status = 'queued'
      and o.message_type = 'template' and o.payload #>> '{template,name}' = fail_template.template
      and (coalesce(fail_template.language, '') = '' or o.payload #>> '{template,language,code}' = fail_template.language)
    order by o.id for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o
    set status = 'failed', available_at = null, hold = null, failed_at = clock_timestamp(), error_code = fail_template.code,
        error_message = coalesce(fail_template.reason, 'its template cannot be sent')
    from locked where o.id = locked.id returning o.id, o.campaign_id, o.error_message),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select id, 'queued', 'failed', jsonb_strip_nulls(jsonb_build_object('code', fail_template.code, 'reason', error_message))
    from moved),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, was, became, n)
    select campaign_id, 'queued', 'failed', count(*) from moved where campaign_id is not null group by 1)
  select coalesce(array_agg(id), '{}') into v_failed from moved;
  perform waemitter.bury_messages(v_failed, array_fill('FAIL_TEMPLATE'::text, array[cardinality(v_failed)]), 'send');
  perform waemitter.wake_lanes(v_failed);
  return cardinality(v_failed);
end $$;

-- Holds whose barrier is gone (a template whose time is over, a campaign that runs or was cancelled) let their rows go, at
-- most 50,000 in one call. Returns how many.
create or replace function waemitter.sweep_holds() returns integer language plpgsql as $$
declare v_hold text; v_barred boolean; v_freed integer := 0; v_n integer;
begin
  delete from waemitter.held_templates where until <= clock_timestamp();
  select min(o.hold) into v_hold from waemitter.outbox_messages o where o.available_at = 'infinity' and o.hold <> 'lane';
  while v_hold is not null loop
    v_barred := case
      when v_hold like 'template:%' then exists (
        select from waemitter.held_templates h where 'template:' || h.template = v_hold)
      when v_hold like 'campaign:%' then exists (
        select from waemitter.campaigns c
        where 'campaign:' || c.id = v_hold and c.status in ('draft', 'scheduled', 'paused'))
      else true end;
    if not v_barred then
      loop
        v_n := waemitter.release_holds(hold => v_hold, max_rows => 1000);
        v_freed := v_freed + v_n;
        exit when v_n < 1000 or v_freed >= 50000;
      end loop;
    end if;
    exit when v_freed >= 50000;
    select min(o.hold) into v_hold from waemitter.outbox_messages o
      where o.available_at = 'infinity' and o.hold <> 'lane' and o.hold > v_hold;
  end loop;
  return v_freed;
end $$;

-- Pairs whose debt is paid are forgotten, those with strikes an hour later; at most 10,000 in one call.
create or replace function waemitter.sweep_pairs() returns integer language sql as $$
  with paid as materialized (
    select p.channel, p.address from waemitter.outbox_pairs p
    where p.tat < clock_timestamp() and (p.blocked_until is null or p.blocked_until < clock_timestamp() - interval '1 hour')
    order by p.channel, p.address limit 10000 for update skip locked),
  gone as (
    delete from waemitter.outbox_pairs p using paid where p.channel = paid.channel and p.address = paid.address
    returning p.address)
  select count(*)::integer from gone
$$;

-- Those of the messages that failed get a dead letter; one that had one already has it again. `classes`: what kind of failure,
-- beside each id.
create or replace function waemitter.bury_messages(ids bigint[], classes text[], stage text) returns integer
language sql as $$
  with buried as (
    insert into waemitter.dead_letters as d
      (direction, stage, channel, message_id, whatsapp_message_id, contact, payload, error, error_class, error_code,
       attempts, resolution_status, resolved_at, correlation_id)
    select 'outbound', case when g.class = 'PAYLOAD' then 'payload' else stage end, o.channel, o.id, o.whatsapp_message_id,
           o.recipient, o.payload, coalesce(o.error_message, 'no reason was given'), g.class, o.error_code, o.attempts,
           'abandoned', clock_timestamp(), o.correlation_id
    from unnest(ids, classes) as g (id, class) join waemitter.outbox_messages o on o.id = g.id
    where o.status = 'failed' order by o.id
    on conflict (message_id) where direction = 'outbound' do update
      set stage = excluded.stage, channel = excluded.channel, whatsapp_message_id = excluded.whatsapp_message_id,
          payload = excluded.payload, error = excluded.error, error_class = excluded.error_class,
          error_code = excluded.error_code, attempts = excluded.attempts, resolution_status = 'abandoned'
    returning 1)
  select count(*)::integer from buried
$$;

-- Letters of messages that were sent after all. Nearly free while no message with a letter is on its way again.
create or replace function waemitter.resolve_letters(ids bigint[]) returns void language plpgsql as $$
begin
  if exists (select from waemitter.dead_letters d where d.direction = 'outbound' and d.resolution_status = 'pending') then
    update waemitter.dead_letters d set resolution_status = 'resolved'
    from waemitter.outbox_messages o
    where d.message_id = any (ids) and d.direction = 'outbound' and d.resolution_status = 'pending'
      and o.id = d.message_id and o.status in ('sent', 'delivered', 'read');
  end if;
end $$;

-- Settle attempts, many at once. outcomes: sent, dry_run; retry (queued again after `delays` seconds), defer (the same, and
-- the attempt is not counted), pair (as defer, and strike_pairs() says for how long), postpone (like retry, and its lane does
-- not wait for it), release (never started: back to where it was); failed (`classes` say in what way, for the dead letter);
-- unconfirmed (nobody knows; `delays` is the grace). An outcome counts only for the token of its attempt, and never lowers a
-- status. `stale`: the ids that were not settled, because another attempt has them or because they have moved on; `woken`:
-- how many lanes could go on.
create or replace function waemitter.settle_messages(
  ids bigint[], tokens bigint[], outcomes text[], wamids text[], delays double precision[], codes integer[], reasons text[],
  classes text[] default '{}'
) returns table (stale bigint[], woken integer) language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_settled bigint[];
  v_freed bigint[];
  v_campaigns bigint[]; v_was text[]; v_became text[];
  v_struck bigint[];
  v_failed bigint[];
  v_classes text[];
begin
  perform waemitter.outgrow_plans('waemitter.outbox_messages');
  perform set_config('waemitter.quiet', 'on', true);
  with locked as materialized (  -- the join comes first: what is joined after the lock would be a loop of loops
    select o.id, o.status as was, o.claimed_at, g.token, g.outcome, g.wamid, g.delay, g.code, g.reason, g.class
    from unnest(ids, tokens, outcomes, wamids, delays, codes, reasons, classes)
      as g (id, token, outcome, wamid, delay, code, reason, class)
    join waemitter.outbox_messages o on o.id = g.id
    order by o.id for no key update of o),
  moved as (
    update waemitter.outbox_messages o set
      status = case
        when g.outcome in ('sent', 'dry_run') and waemitter.status_rank(o.status) = 0 then 'sent'
        when g.outcome in ('sent', 'dry_run') then o.status
        when g.outcome in ('retry', 'defer', 'pair', 'postpone', 'release') then 'queued'
        else g.outcome end,
      available_at = case
        when g.outcome in ('sent', 'dry_run', 'failed') then null
        when g.outcome = 'release' then coalesce(o.due_at, v_now)
        else v_now + coalesce(g.delay, 0) * interval '1 second' end,
      hold = null,
      whatsapp_message_id = coalesce(o.whatsapp_message_id, g.wamid),
      dry_run = g.outcome = 'dry_run',
      sent_at = case when g.outcome in ('sent', 'dry_run') then coalesce(o.sent_at, v_now) else o.sent_at end,
      failed_at = case when g.outcome = 'failed' then v_now else o.failed_at end,
      attempts = o.attempts - case when g.outcome in ('release', 'defer', 'pair') then 1 else 0 end,
      claimed_at = case when g.outcome = 'postpone' or (g.outcome = 'release' and o.attempts = 1) then null
                        else o.claimed_at end,
      error_code = case when g.outcome = 'release' or o.status = 'failed' then o.error_code else g.code end,
      error_message = case when g.outcome = 'release' or o.status = 'failed' then o.error_message else g.reason end
    from locked g
    where o.id = g.id and o.token = g.token and case g.outcome
      when 'sent' then waemitter.status_rank(o.status) = 0 or o.whatsapp_message_id is null or o.sent_at is null
      when 'unconfirmed' then o.status = 'sending'
      else o.status in ('sending', 'unconfirmed') end
    returning o.id, o.campaign_id, o.lane, o.status, g.was, g.claimed_at, g.outcome, g.code, g.reason, g.class, o.attempts),
  told as (
    insert into waemitter.outbox_transitions (message_id, at, from_status, to_status, detail)
    select id, v_now, was, status, jsonb_strip_nulls(jsonb_build_object(
             'code', code, 'reason', reason, 'attempt', attempts, 'claimed_at', claimed_at,
             'postponed', nullif(outcome = 'postpone', false)))
    from moved where outcome not in ('sent', 'dry_run', 'release'))
  select array_agg(id), array_agg(id) filter (where lane <> '' and status <> 'unconfirmed'),
         array_agg(id) filter (where outcome = 'pair'),
         array_agg(campaign_id) filter (where campaign_id is not null and waemitter.counts(was, status)),
         array_agg(was) filter (where campaign_id is not null and waemitter.counts(was, status)),
         array_agg(status) filter (where campaign_id is not null and waemitter.counts(was, status)),
         array_agg(id) filter (where outcome = 'failed'), array_agg(class) filter (where outcome = 'failed')
    into v_settled, v_freed, v_struck, v_campaigns, v_was, v_became, v_failed, v_classes
  from moved;
  if v_struck is not null then perform waemitter.strike_pairs(v_struck, v_now); end if;
  if v_campaigns is not null then perform waemitter.count_campaigns(v_campaigns, v_was, v_became); end if;
  if v_failed is not null then perform waemitter.bury_messages(v_failed, v_classes, 'send'); end if;
  perform waemitter.resolve_letters(v_settled);
  woken := case when v_freed is null then 0 else waemitter.wake_lanes(v_freed) end;
  stale := case when cardinality(v_settled) = cardinality(ids) then '{}'
                else array(select g from unnest(ids) g where v_settled is null or g <> all (v_settled)) end;
  perform set_config('waemitter.quiet', '', true);
  return next;
end $$;

-- Pause a channel, named by itself, by its number, or with all others of its account (WABA); `account`: with all that share
-- its token or WABA. `seconds` may be 'infinity': until it is resumed, and when the reason begins with PAUSE_ the daemon asks
-- Meta whether it may be. `happened`: when Meta said so, from where a pause counts; what is older than the last resume is no
-- news. A pause never shortens another. Returns the names of those that are paused longer than before.
create or replace function waemitter.pause_channels(
  reason text, seconds double precision, channel text default null, phone_number_id text default null,
  waba_id text default null, account boolean default false, happened timestamptz default null
) returns setof text language sql as $$
  with meant as (
    select c.name, c.access_token_hash, c.waba_id from waemitter.channels c
    where c.name = pause_channels.channel or c.phone_number_id = pause_channels.phone_number_id
       or c.waba_id = pause_channels.waba_id),
  until as (
    select case when seconds = 'infinity' then 'infinity'
                else least(coalesce(happened, clock_timestamp()), clock_timestamp()) + seconds * interval '1 second' end as at),
  locked as materialized (
    select c.name, u.at from waemitter.channels c cross join until u
    where exists (select from meant m where m.name = c.name or (account and
                    (m.access_token_hash = c.access_token_hash or m.waba_id = c.waba_id)))
      and u.at > clock_timestamp() and (c.paused_until is null or c.paused_until < u.at)
      and (happened is null or c.resumed_at is null or happened >= c.resumed_at)
    order by c.name for no key update of c)
  update waemitter.channels c
    set paused_until = l.at, pause_reason = reason, paused_at = clock_timestamp(),
        probe_at = case when reason ~ '^PAUSE_' then clock_timestamp() + interval '1 minute' end
  from locked l where c.name = l.name returning c.name
$$;

-- End pauses now: of one channel, or of all of an account; only those whose reason is like `reasons`. Returns their names.
create or replace function waemitter.resume_channels(
  channel text default null, waba_id text default null, reasons text default '%'
) returns setof text language sql as $$
  with locked as materialized (
    select c.name from waemitter.channels c
    where (c.name = resume_channels.channel or c.waba_id = resume_channels.waba_id)
      and c.paused_until > clock_timestamp() and coalesce(c.pause_reason, '') like reasons
    order by c.name for no key update)
  update waemitter.channels c set paused_until = null from locked l where c.name = l.name returning c.name
$$;

-- sent < failed < delivered < read (a played voice note was read); 0 for what was not sent, NULL for a word unknown here.
create or replace function waemitter.status_rank(word text) returns integer language sql immutable parallel safe as $$
  select case word when 'sent' then 2 when 'failed' then 3 when 'delivered' then 4 when 'read' then 5 when 'played' then 5
                   when 'queued' then 0 when 'sending' then 0 when 'unconfirmed' then 0 when 'cancelled' then 0
                   when 'expired' then 0 when 'suppressed' then 0 end
$$;

-- Apply Meta's statuses, many at once, in whatever order they came: sent < failed < delivered < read, and never downwards.
-- A row is found by our own id and the attempt's token (both from biz_opaque_callback_data, so also before the attempt
-- was settled), else by its wamid. A failure of an older attempt never fails the row; any success ends it, but for a mere
-- `sent` of an attempt that was known to be accepted when it was retried. `heard` false: these are no statuses but answers that came
-- when their attempt was over already, so they prove nothing about webhooks.
-- Returns how many of each word were applied, stale (no news), parked (of no message here, yet) or unknown; `resolved`:
-- unconfirmed before; `doubled`: attempts that were accepted beside another one of their message, each told once; `freed`:
-- lanes that went on.
create or replace function waemitter.apply_statuses(
  message_ids bigint[], tokens bigint[], wamids text[], words text[], times timestamptz[], codes integer[],
  reasons text[], categories text[], billables boolean[], heard boolean
) returns table (status text, result text, n bigint, resolved bigint, doubled integer, freed integer) language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare v_ended bigint[]; v_revived bigint[]; v_counts jsonb; v_doubled integer; v_woken integer;
  v_campaigns bigint[]; v_was text[]; v_became text[];
begin
  perform waemitter.outgrow_plans('waemitter.outbox_messages');
  perform set_config('waemitter.quiet', 'on', true);
  with given as materialized (
    select g.*, coalesce(g.at, clock_timestamp()) as happened, waemitter.status_rank(g.word) as rank
    from unnest(message_ids, tokens, wamids, words, times, codes, reasons, categories, billables)
      as g (message_id, token, wamid, word, at, code, reason, category, billable)),
  found as materialized (
    select g.*, coalesce(mine.id, older.id, named.id, older_named.id) as id, mine.id is not null or named.id is not null as latest,
      coalesce(older.accepted, older_named.id is not null) as accepted
    from given g
    left join lateral (select o.id from waemitter.outbox_messages o
      where o.id = g.message_id and o.token = g.token and o.claimed_at is not null) mine on true
    left join lateral (select a.message_id as id, a.whatsapp_message_id is not null as accepted from waemitter.outbox_attempts a
      where mine.id is null and a.message_id = g.message_id and a.token = g.token) older on true
    left join lateral (select o.id from waemitter.outbox_messages o
      where mine.id is null and older.id is null and o.whatsapp_message_id = g.wamid limit 1) named on true
    left join lateral (select a.message_id as id from waemitter.outbox_attempts a
      where mine.id is null and older.id is null and named.id is null and a.whatsapp_message_id = g.wamid
      limit 1) older_named on true),
  parked as (  -- its message may yet become known; see take_parked_statuses
    insert into waemitter.parked_statuses (message_id, token, wamid, word, at, code, reason, category, billable)
    select distinct on (wamid, word) message_id, token, wamid, word, at, code, reason, category, billable
    from found where heard and id is null and rank > 0 and wamid <> '' order by wamid, word on conflict do nothing),
  remembered as (
    update waemitter.outbox_attempts a set whatsapp_message_id = f.wamid from found f
    where not f.latest and a.message_id = f.id and a.token = f.token and a.whatsapp_message_id is null),
  news as materialized (
    select id, max(rank) as rank,
      min(happened) filter (where word = 'sent') as sent_at, min(happened) filter (where word = 'delivered') as delivered_at,
      min(happened) filter (where rank = 5) as read_at, min(happened) filter (where word = 'failed') as failed_at,
      (array_agg(code) filter (where word = 'failed'))[1] as code, (array_agg(reason) filter (where word = 'failed'))[1] as reason,
      (array_agg(wamid order by latest) filter (where wamid is not null))[1] as wamid,
      (array_agg(category) filter (where category is not null))[1] as category, bool_or(billable) as billable
    from found where id is not null and rank > 0 and (latest or word not in ('failed', 'sent') or (word = 'sent' and not accepted))
    group by id),
  -- Meta tells whole seconds by its own clock: a message must not seem to arrive before it left
  locked as materialized (
    select w.*, o.channel, o.status as was, waemitter.status_rank(o.status) as had, o.whatsapp_message_id as known,
      coalesce(o.sent_at, case when coalesce(w.sent_at, w.delivered_at, w.read_at) is not null
        then greatest(coalesce(w.sent_at, w.delivered_at, w.read_at), o.claimed_at) end) as left_at
    from waemitter.outbox_messages o join news w on w.id = o.id order by o.id for no key update of o),
  moved as (
    update waemitter.outbox_messages o set
      status = case when w.rank <= w.had then o.status
                    else (array['sent', 'failed', 'delivered', 'read'])[w.rank - 1] end,
      available_at = case when w.rank > w.had then null else o.available_at end,
      hold = case when w.rank > w.had then null else o.hold end,
      whatsapp_message_id = coalesce(o.whatsapp_message_id, w.wamid),
      sent_at = w.left_at,
      delivered_at = coalesce(o.delivered_at, case when w.rank >= 4 then
        greatest(coalesce(w.delivered_at, w.read_at), w.left_at + interval '1 microsecond') end),
      read_at = coalesce(o.read_at, case when w.rank = 5 then
        greatest(coalesce(o.delivered_at, w.delivered_at, w.read_at) + interval '1 microsecond', w.read_at,
                 w.left_at + interval '2 microseconds') end),
      failed_at = case when w.rank <= w.had then o.failed_at when w.rank = 3 then w.failed_at end,
      error_code = case when w.rank <= w.had then o.error_code when w.rank = 3 then w.code end,
      error_message = case when w.rank <= w.had then o.error_message when w.rank = 3 then w.reason end,
      pricing_category = coalesce(o.pricing_category, w.category), billable = coalesce(o.billable, w.billable)
    from locked w
    where o.id = w.id and (w.rank > w.had or (w.category is not null and o.pricing_category is null))
    returning o.id, o.campaign_id, o.channel, o.lane, o.status, o.error_code, o.error_message, w.was, w.had, w.rank),
  twice as materialized (
    select distinct f.id, f.token, f.wamid, f.latest, w.was
    from found f join locked w on w.id = f.id
    where f.rank in (2, 4, 5) and not f.accepted and f.token is not null and f.wamid <> coalesce(w.known, w.wamid)),
  kept as (
    insert into waemitter.outbox_attempts (message_id, token, whatsapp_message_id)
    select id, token, wamid from twice where latest on conflict do nothing returning message_id, token),
  doubled as materialized (
    select t.* from twice t
    where not t.latest or exists (select from kept k where k.message_id = t.id and k.token = t.token)),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select id, was, status, jsonb_strip_nulls(jsonb_build_object(
      'by', case when heard then 'status webhook' else 'late answer' end, 'code', error_code, 'reason', error_message))
    from moved where rank > had and (status = 'failed' or was in ('unconfirmed', 'queued', 'failed', 'cancelled', 'expired'))
    union all
    select id, was, was, jsonb_build_object('reason', 'two attempts were accepted', 'whatsapp_message_id', wamid) from doubled),
  seen as (
    update waemitter.channels c
    set statuses_seen_at = clock_timestamp(),
        statuses_until = least(greatest(c.statuses_until, s.until), clock_timestamp())
    from (select n.name, h.until
          from (select l.channel, max(greatest(l.sent_at, l.delivered_at, l.read_at, l.failed_at)) as until
                from locked l where heard group by 1) h
          join waemitter.channels n on n.name = h.channel
          where n.statuses_seen_at is null or n.statuses_seen_at < clock_timestamp() - interval '1 second'
          for no key update of n skip locked) s where c.name = s.name),
  counted as (  -- sorted together: to join them would be a loop of loops
    select word, case when id is null and rank > 0 and wamid <> '' then 'parked' when id is null then 'unknown'
                      when rank > had then 'applied' else 'stale' end as result,
           count(*) as n, count(distinct id) filter (where was = 'unconfirmed' and rank = top) as resolved
    from (
      select u.told, u.id, u.word, u.rank, u.wamid, max(u.had) over one as had, max(u.top) over one as top, max(u.was) over one as was
      from (select true as told, id, word, rank, wamid, null::integer as had, null::integer as top, null::text as was from found
            union all select false, id, null, null, null, had, rank, was from moved) u
      window one as (partition by u.id)) w
    where told group by 1, 2)
  select (select jsonb_agg(to_jsonb(c)) from counted c),
         (select count(*) from doubled),
         (select array_agg(id) from moved where lane <> '' and was in ('queued', 'sending', 'unconfirmed')),
         (select array_agg(id) from moved where was = 'failed' and status <> 'failed'), c.*
    into v_counts, v_doubled, v_ended, v_revived, v_campaigns, v_was, v_became
    from (select array_agg(m.campaign_id), array_agg(m.was), array_agg(m.status) from moved m
          where m.campaign_id is not null and m.status <> m.was) c;
  if v_revived is not null then  -- given up too early
    update waemitter.dead_letters d set resolution_status = 'resolved'
      where d.message_id = any (v_revived) and d.direction = 'outbound' and d.resolution_status in ('pending', 'abandoned');
  end if;
  v_woken := case when v_ended is null then 0 else waemitter.wake_lanes(v_ended) end;
  if v_campaigns is not null then perform waemitter.count_campaigns(v_campaigns, v_was, v_became); end if;
  perform set_config('waemitter.quiet', '', true);
  return query select c.word, c.result, c.n, c.resolved, v_doubled, v_woken
    from jsonb_to_recordset(v_counts) as c (word text, result text, n bigint, resolved bigint);
end $$;

-- Failures that Meta told of after its 200, right after apply_statuses() and in its transaction: rows that it made `failed`.
-- `agains` says whether such a message is sent again: never; spent (while it had fewer than `tries` attempts, and retries
-- are left); linked (the same, if its media is a link: Meta may fetch it the next time); unspent (the attempt is not counted;
-- twenty times at the most); pair (the same, and strike_pairs() says when); once (`delays` is a day or more). What is not sent again gets its dead letter. `suppressed`:
-- the recipient wants no more. Returns what became of each row; repeated and unknown failures return none.
create or replace function waemitter.apply_failures(
  message_ids bigint[], tokens bigint[], wamids text[], codes integer[], classes text[], agains text[], tries integer[],
  delays double precision[], suppressed boolean[], retries integer, retry_delays double precision[]
) returns table (n integer, message_id bigint, channel text, correlation_id text, attempt integer, delay double precision,
                 template text, language text) language plpgsql
  set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v_ids bigint[]; v_numbers integer[]; v_failed bigint[]; v_classes text[];
  v_struck bigint[];
begin
  perform set_config('waemitter.quiet', 'on', true);
  with given as materialized (
    select g.* from unnest(message_ids, tokens, wamids, codes) with ordinality as g (message_id, token, wamid, code, n)),
  named as materialized (
    select distinct on (o.id) o.id, g.n
    from given g cross join lateral (
      select m.id, m.status, m.error_code from waemitter.outbox_messages m where m.id = g.message_id and m.token = g.token
      union
      select w.id, w.status, w.error_code from waemitter.outbox_messages w where w.whatsapp_message_id = g.wamid) o
    where o.status = 'failed' and o.error_code is not distinct from g.code
      and not exists (select from waemitter.dead_letters d where d.message_id = o.id and d.direction = 'outbound'
                      and d.resolution_status in ('abandoned', 'discarded'))
    order by o.id, g.n),
  locked as materialized (  -- apply_statuses has locked what it changed; what another transaction has is not ours
    select o.id, d.n from named d join waemitter.outbox_messages o on o.id = d.id where o.status = 'failed'
    order by o.id for no key update of o skip locked)
  select array_agg(l.id order by l.id), array_agg(l.n order by l.id) into v_ids, v_numbers from locked l;
  if v_ids is null then
    perform set_config('waemitter.quiet', '', true);
    return;
  end if;

  return query
    with judged as materialized (
      select o.id, u.n, o.channel, o.campaign_id, o.correlation_id, o.attempts, o.message_type, o.payload, o.token, o.whatsapp_message_id,
        o.error_code, o.error_message, g.again,
        case when g.again in ('spent', 'linked') then
          greatest(g.delay, retry_delays[least(greatest(o.attempts, 1), cardinality(retry_delays))]) else g.delay end as delay,
        case g.again
          when 'spent' then o.attempts < least(g.tries, coalesce(o.max_attempts, retries) + 1)
          when 'linked' then o.attempts < least(g.tries, coalesce(o.max_attempts, retries) + 1)
                             and jsonb_path_exists(o.payload, '$.**.link')
          when 'once' then not exists (select from waemitter.outbox_transitions t
                                       where t.message_id = o.id and t.detail ? 'postponed')
          when 'never' then false
          else (select count(*) from waemitter.outbox_attempts a where a.message_id = o.id) < 20 end as resent
      from unnest(v_ids, v_numbers) as u (id, n) join waemitter.outbox_messages o on o.id = u.id
      join unnest(agains, tries, delays) with ordinality as g (again, tries, delay, n) on g.n = u.n),
    kept as (
      insert into waemitter.outbox_attempts (message_id, token, whatsapp_message_id)
      select id, token, whatsapp_message_id from judged where resent and token is not null
      on conflict (message_id, token) do update set whatsapp_message_id = excluded.whatsapp_message_id),
    moved as (
      update waemitter.outbox_messages o
      set status = 'queued', available_at = v_now + coalesce(j.delay, 0) * interval '1 second', hold = null, due_at = null,
          claimed_at = null, attempts = o.attempts - case when j.again in ('unspent', 'pair') and o.attempts > 0 then 1 else 0 end,
          whatsapp_message_id = null, sent_at = null, failed_at = null
      from judged j where o.id = j.id and j.resent),
    told as (
      insert into waemitter.outbox_transitions (message_id, at, from_status, to_status, detail)
      select id, v_now, 'failed', 'queued', jsonb_strip_nulls(jsonb_build_object(
               'code', error_code, 'reason', error_message, 'attempt', attempts, 'postponed', nullif(again = 'once', false)))
      from judged where resent),
    counted as (
      insert into waemitter.campaign_changes (campaign_id, was, became, n)
      select campaign_id, 'failed', 'queued', count(*) from judged where resent and campaign_id is not null group by 1)
    select j.n, j.id, j.channel, j.correlation_id, j.attempts::integer, case when j.resent then coalesce(j.delay, 0) end,
           case when j.message_type = 'template' then j.payload #>> '{template,name}' end,
           case when j.message_type = 'template' then j.payload #>> '{template,language,code}' end
    from judged j order by j.id;
  perform waemitter.untell_failures(array(select o.id from waemitter.outbox_messages o
                                          where o.id = any (v_ids) and o.status = 'queued'));

  select array_agg(u.id) into v_struck from unnest(v_ids, v_numbers) as u (id, n) where agains[u.n] = 'pair';
  if v_struck is not null then perform waemitter.strike_pairs(v_struck, v_now); end if;
  insert into waemitter.suppressions (channel, address, scope, reason, source)
    select distinct o.channel, waemitter.address(o.recipient), 'marketing', 'marketing_stop', 'status webhook'
    from unnest(v_ids, v_numbers) as u (id, n) join waemitter.outbox_messages o on o.id = u.id
    where suppressed[u.n] and waemitter.address(o.recipient) <> '' on conflict do nothing;
  select array_agg(o.id), array_agg(classes[u.n]) into v_failed, v_classes
  from unnest(v_ids, v_numbers) as u (id, n) join waemitter.outbox_messages o on o.id = u.id where o.status = 'failed';
  if v_failed is not null then perform waemitter.bury_messages(v_failed, v_classes, 'status'); end if;
  perform set_config('waemitter.quiet', '', true);
end $$;

-- What a notification, a wake or a daemon may have missed: lanes that came free unseen; holds whose barrier is gone; rows of
-- a channel that is not there.
create or replace function waemitter.sweep_outbox() returns integer language plpgsql as $$
declare v_lanes bigint[]; v_strays bigint[];
begin
  perform set_config('waemitter.quiet', 'on', true);
  select array_agg(id) into v_lanes from (
    select min(o.id) as id from waemitter.outbox_messages o
    where o.available_at = 'infinity' and o.hold = 'lane' group by o.channel, o.lane) parked;
  if v_lanes is not null and waemitter.wake_lanes(v_lanes) > 0 then notify waemitter_outbox; end if;
  if waemitter.sweep_holds() > 0 then notify waemitter_outbox; end if;
  perform waemitter.sweep_pairs();
  with recursive names (channel) as (
    select (select min(o.channel) from waemitter.outbox_messages o where o.available_at is not null)
    union all
    select (select min(o.channel) from waemitter.outbox_messages o
            where o.available_at is not null and o.channel > names.channel)
    from names where names.channel is not null),
  stray as materialized (
    select o.id from waemitter.outbox_messages o
    where o.available_at is not null and o.status = 'queued'
      and o.channel in (select n.channel from names n where n.channel is not null
                        and not exists (select from waemitter.channels c where c.name = n.channel))
    order by o.id limit 1000 for no key update skip locked),
  moved as (
    update waemitter.outbox_messages o set status = 'failed', available_at = null, hold = null, failed_at = clock_timestamp(),
      error_message = format('channel: there is no channel %L; add it to waemitter.channels (or to waemitter.toml), then retry', o.channel)
    from stray where o.id = stray.id returning o.id, o.campaign_id, o.error_message),
  told as (
    insert into waemitter.outbox_transitions (message_id, from_status, to_status, detail)
    select id, 'queued', 'failed', jsonb_build_object('reason', error_message) from moved),
  counted as (
    insert into waemitter.campaign_changes (campaign_id, was, became, n)
    select campaign_id, 'queued', 'failed', count(*) from moved where campaign_id is not null group by 1)
  select array_agg(id) into v_strays from moved;
  perform waemitter.count_changes();
  perform waemitter.fold_counts();
  if v_strays is not null then
    perform waemitter.bury_messages(v_strays, array_fill('CHANNEL'::text, array[cardinality(v_strays)]), 'send');
  end if;
  -- a message that was queued once more and did not end by being sent
  with ended as (
    select d.id, coalesce(o.status, 'gone') as status
    from waemitter.dead_letters d left join waemitter.outbox_messages o on o.id = d.message_id
    where d.direction = 'outbound' and d.resolution_status = 'pending' and o.available_at is null
    order by d.id limit 1000 for no key update of d skip locked)
  update waemitter.dead_letters d set resolution_status = case
      when e.status in ('sent', 'delivered', 'read') then 'resolved' when e.status = 'failed' then 'abandoned' else 'discarded' end
  from ended e where d.id = e.id;
  perform set_config('waemitter.quiet', '', true);
  return coalesce(cardinality(v_strays), 0);
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- What becomes of webhooks. Locks, here and everywhere: keys, contacts, conversations, then messages of the outbox.

-- The contact behind these addresses: the one known, a new one, or, when they lead to several, those joined into one.
-- `known`: a contact that they are to lead to besides; `at`: when it was written, since an address may have changed hands.
create or replace function waemitter.contact_of(
  channel text, wa_id text, user_id text default null, group_id text default null, name text default null,
  username text default null, at timestamptz default null, known bigint default null
) returns bigint language plpgsql as $$
#variable_conflict use_column
declare
  v_at timestamptz := coalesce(contact_of.at, clock_timestamp());
  v_addresses text[] := array(select a from unnest(array[contact_of.wa_id, contact_of.user_id, contact_of.group_id]) a
                              where a <> '' order by a);
  v_found bigint[]; v_id bigint; v_same boolean; v_current text[];
begin
  if v_addresses = '{}' then
    raise exception 'a contact has a phone number, a user id or a group id' using errcode = 'invalid_parameter_value';
  end if;
  loop
    delete from waemitter.contact_addresses a
      where a.channel = contact_of.channel and a.address = any (v_addresses) and a.retired_at < v_at;
    select array_agg(distinct a.contact_id), count(*) = cardinality(v_addresses)
      into v_found, v_same
      from waemitter.contact_addresses a where a.channel = contact_of.channel and a.address = any (v_addresses);
    if known is not null and v_found is distinct from array[known] then
      v_found := array(select distinct f from unnest(v_found || known) f order by f);
    end if;
    if v_found is null then
      insert into waemitter.contacts (channel, wa_id, user_id, group_id, name, username)
      values (contact_of.channel, contact_of.wa_id, contact_of.user_id, contact_of.group_id, contact_of.name, contact_of.username)
      returning id into v_id;
    elsif cardinality(v_found) = 1 then
      v_id := v_found[1];
      exit when v_same;
    else
      v_id := waemitter.join_contacts(v_found);
    end if;
    insert into waemitter.contact_addresses (channel, address, contact_id)
      select contact_of.channel, a, v_id from unnest(v_addresses) a order by a on conflict do nothing;
    exit when (select count(*) from waemitter.contact_addresses a where a.channel = contact_of.channel
                 and a.address = any (v_addresses) and a.contact_id = v_id) = cardinality(v_addresses);
    if v_found is null then  -- another transaction was quicker: its contact it is
      delete from waemitter.contacts c where c.id = v_id;
    end if;
  end loop;
  select array_agg(a.address) into v_current from waemitter.contact_addresses a
    where a.channel = contact_of.channel and a.address = any (v_addresses) and a.retired_at is null;
  update waemitter.contacts c set
      wa_id = case when contact_of.wa_id = any (v_current) then contact_of.wa_id else c.wa_id end,
      user_id = case when contact_of.user_id = any (v_current) then contact_of.user_id else c.user_id end,
      name = coalesce(contact_of.name, c.name), username = coalesce(contact_of.username, c.username),
      updated_at = clock_timestamp()
    where c.id = v_id
      and ((contact_of.wa_id = any (v_current) and c.wa_id is distinct from contact_of.wa_id)
        or (contact_of.user_id = any (v_current) and c.user_id is distinct from contact_of.user_id)
        or c.name is distinct from coalesce(contact_of.name, c.name)
        or c.username is distinct from coalesce(contact_of.username, c.username));
  return v_id;
end $$;

-- Several contacts turned out to be one person. The one who wrote last keeps the conversation, since its window, its lock
-- and its session are the live ones; it takes over the addresses, and a human's turn if one is under way. The others stay,
-- with what was said there, and tell by joined_to where it went on.
create or replace function waemitter.join_contacts(ids bigint[]) returns bigint language plpgsql as $$
#variable_conflict use_column
declare v_id bigint;
begin
  perform from waemitter.contacts c where c.id = any (ids) order by c.id for no key update;
  select c.id into v_id from waemitter.contacts c left join waemitter.conversations v on v.contact_id = c.id
    where c.id = any (ids) order by v.last_inbound_at desc nulls last, c.id limit 1;
  update waemitter.contact_addresses a set contact_id = v_id where a.contact_id = any (ids) and a.contact_id <> v_id;
  update waemitter.contacts c set joined_to = v_id, updated_at = clock_timestamp() where c.id = any (ids) and c.id <> v_id;
  update waemitter.contacts c set
      wa_id = coalesce(c.wa_id, o.wa_id), user_id = coalesce(c.user_id, o.user_id), name = coalesce(c.name, o.name),
      username = coalesce(c.username, o.username), updated_at = clock_timestamp()
    from (select max(wa_id) as wa_id, max(user_id) as user_id, max(name) as name, max(username) as username
          from waemitter.contacts where id = any (ids) and id <> v_id) o where c.id = v_id;
  delete from waemitter.agent_contexts x where x.contact_id = any (ids) and x.contact_id <> v_id and x.kind = 'summary';
  update waemitter.agent_contexts x set contact_id = v_id where x.contact_id = any (ids) and x.contact_id <> v_id;
  perform from waemitter.conversations v where v.contact_id = any (ids) order by v.contact_id for no key update;
  update waemitter.conversations v set takeover_until = o.until, status = 'human', updated_at = clock_timestamp()
    from (select max(takeover_until) as until from waemitter.conversations
          where contact_id = any (ids) and contact_id <> v_id and takeover_until > clock_timestamp()) o
    where v.contact_id = v_id and o.until > coalesce(v.takeover_until, '-infinity') and v.status in ('idle', 'human', 'error');
  return v_id;
end $$;

-- Keep messages, each once: its key, its contact, its conversation (which stays locked) and the message are one transaction.
-- `opens`: whether it opens the 24-hour window. `result`: received, duplicate, or unknown_number: no channel has its number;
-- such a one leaves no key, so that a replay can bring it in once the channel is there.
create or replace function waemitter.receive_messages(
  numbers text[], wamids text[], types text[], wa_ids text[], user_ids text[], group_ids text[], names text[],
  usernames text[], times timestamptz[], opens boolean[], payloads text[], contacts text[], webhook_ids bigint[]
) returns table (n integer, result text, message_id bigint, conversation_id bigint, contact_id bigint, channel text)
language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  r record;
  v_contact bigint; v_conversation bigint;
  v_fresh integer[] := '{}'; v_conversations bigint[] := '{}'; v_contacts bigint[] := '{}'; v_channels text[] := '{}';
begin
  perform waemitter.outgrow_plans('waemitter.inbound_messages');
  for r in
    with given as materialized (
      select g.*, c.name as channel
      from unnest(numbers, wamids, wa_ids, user_ids, group_ids, names, usernames, times, opens)
        with ordinality as g (number, wamid, wa_id, user_id, group_id, name, username, at, opens, n)
      left join lateral (select c.name from waemitter.channels c
        where c.phone_number_id = g.number and c.kind = 'whatsapp' order by c.name limit 1) c on true),
    kept as (
      insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
      select distinct on (wamid, number) wamid, 'messages', number from given where channel is not null order by wamid, number
      on conflict do nothing returning whatsapp_message_id as wamid, scope as number)
    select g.*, k.wamid is not null and g.n = min(g.n) over (partition by g.wamid, g.number) as fresh
    from given g left join kept k using (wamid, number)
    order by coalesce(g.group_id, g.wa_id, g.user_id), g.n
  loop
    if not r.fresh then
      n := r.n; channel := r.channel;
      result := case when r.channel is null then 'unknown_number' else 'duplicate' end;
      return next;
      continue;
    end if;
    v_contact := case when r.group_id is null
      then waemitter.contact_of(r.channel, r.wa_id, r.user_id, null, r.name, r.username, r.at)
      else waemitter.contact_of(r.channel, null, null, r.group_id) end;
    insert into waemitter.conversations as v (channel, contact_id, last_inbound_at)
      values (r.channel, v_contact,
              case when r.opens then least(coalesce(r.at, clock_timestamp()), clock_timestamp()) end)
      on conflict (channel, contact_id) do update
        set last_inbound_at = greatest(v.last_inbound_at, excluded.last_inbound_at), updated_at = clock_timestamp()
      returning id into v_conversation;
    v_fresh := v_fresh || r.n::integer; v_conversations := v_conversations || v_conversation;
    v_contacts := v_contacts || v_contact; v_channels := v_channels || r.channel;
  end loop;
  if v_fresh = '{}' then return; end if;
  return query
    with fresh as materialized (
      select * from unnest(v_fresh, v_conversations, v_contacts, v_channels) as f (n, conversation_id, contact_id, channel)),
    kept as (
      insert into waemitter.inbound_messages
        (conversation_id, whatsapp_message_id, message_type, payload, contact, sent_at, webhook_id)
      select f.conversation_id, wamids[f.n], types[f.n], payloads[f.n]::jsonb, contacts[f.n]::jsonb, times[f.n], webhook_ids[f.n]
      from fresh f order by f.n
      returning id, conversation_id, whatsapp_message_id)
    select f.n, 'received', k.id, f.conversation_id, f.contact_id, f.channel
    from fresh f join kept k on k.conversation_id = f.conversation_id and k.whatsapp_message_id = wamids[f.n]
    order by f.n;
end $$;

-- A customer goes by another phone number or user id from `at` on; `former`: what is no longer theirs. What was written from
-- there before still leads to the same contact; whoever writes from there later is somebody else. Returns the contact.
create or replace function waemitter.follow_contact(
  channel text, contact_id bigint, former text[], wa_id text, user_id text, at timestamptz
) returns bigint language plpgsql as $$
#variable_conflict use_column
begin
  update waemitter.contact_addresses a set retired_at = coalesce(follow_contact.at, clock_timestamp())
    where a.channel = follow_contact.channel and a.address = any (former) and a.retired_at is null
      and a.address is distinct from follow_contact.wa_id and a.address is distinct from follow_contact.user_id;
  return waemitter.contact_of(channel => follow_contact.channel, wa_id => follow_contact.wa_id,
    user_id => follow_contact.user_id, at => follow_contact.at, known => follow_contact.contact_id);
end $$;

-- Take parked statuses whose message is known by now: the caller applies them, in the same transaction.
create or replace function waemitter.take_parked_statuses(max_rows integer) returns setof waemitter.parked_statuses
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
begin
  return query
  with known as materialized (
    select s.id from waemitter.parked_statuses s
    where exists (select from waemitter.outbox_messages o where o.whatsapp_message_id = s.wamid)
       or exists (select from waemitter.outbox_attempts a where a.whatsapp_message_id = s.wamid)
    order by s.id limit max_rows for update of s skip locked)
  delete from waemitter.parked_statuses s using known k where s.id = k.id returning s.*;
end $$;

-- Drop parked statuses that are older than `patience`: how many of each word. The last row has none: `waiting` tells whether any
-- stay parked.
create or replace function waemitter.drop_parked_statuses(patience interval, max_rows integer)
returns table (status text, n bigint, waiting boolean)
language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
begin
  return query
    with old as materialized (
      select s.id from waemitter.parked_statuses s where s.parked_at < clock_timestamp() - patience
      order by s.parked_at, s.id limit max_rows for update skip locked),
    dropped as (delete from waemitter.parked_statuses s using old where s.id = old.id returning s.word)
    select d.word, count(*), true from dropped d group by d.word;
  status := null; n := 0; waiting := exists (select from waemitter.parked_statuses);
  return next;
end $$;

-- A handler of the application's own, a function from jsonb to jsonb, answers a turn, with the rights of whoever calls.
create or replace function waemitter.answer_turn(handler text, turn jsonb) returns jsonb language plpgsql as $$
declare
  called text := (select format('select %I.%I($1)', n.nspname, p.proname) from pg_catalog.pg_proc p
                  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
                  where p.oid = to_regprocedure(handler || '(jsonb)'));
  answer jsonb;
begin
  if called is null then
    raise undefined_function using message = format('there is no function %s(jsonb)', handler);
  end if;
  execute called into answer using turn;
  return answer;
end $$;

-- Forget keys, a batch at a time. Meta delivers again for seven days: nothing younger than eight is ever forgotten.
create or replace function waemitter.purge_webhook_keys(older_than interval default '8 days', max_rows integer default 10000)
returns integer language sql as $$
  with old as materialized (
    select ctid from waemitter.processed_webhook_messages
    where created_at < clock_timestamp() - greatest(older_than, interval '8 days') order by created_at limit max_rows
    for update skip locked),
  gone as (delete from waemitter.processed_webhook_messages p using old where p.ctid = old.ctid returning 1)
  select count(*)::integer from gone
$$;

-- Delete webhooks that came so long ago and were worked off, or given up, at most so many; the number of those deleted.
create or replace function waemitter.purge_webhook_logs(older_than interval default '30 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.webhook_logs
    where created_at < clock_timestamp() - older_than and available_at is null
    order by created_at limit max_rows for update skip locked),
  gone as (delete from waemitter.webhook_logs l using old where l.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- Forget what such webhooks said, and keep that they came; at most so many, the number of those blanked. The newest go first,
-- so that a batch need not pass by all that was blanked before. They cannot be replayed any more.
create or replace function waemitter.blank_webhook_logs(older_than interval, max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.webhook_logs
    where created_at < clock_timestamp() - older_than and available_at is null and octet_length(body) > 0
    order by created_at desc limit max_rows for update skip locked),
  blanked as (
    update waemitter.webhook_logs l set body = '', headers = null from old where l.id = old.id returning 1)
  select count(*)::integer from blanked
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- What Meta tells beside messages and statuses, and what customers wish.

-- True when nothing newer is known about the subject; it is remembered. The same word again is no news.
create or replace function waemitter.is_news(account text, about text, subject text, word text, at timestamptz)
returns boolean language sql as $$
  with kept as (
    insert into waemitter.latest_news as n (account, about, subject, word, at)
    values (account, about, coalesce(subject, ''), word, coalesce(at, clock_timestamp()))
    on conflict on constraint latest_news_pkey do update set word = excluded.word, at = excluded.at
      where excluded.at > n.at or (excluded.at = n.at and excluded.word is distinct from n.word)
    returning 1)
  select exists (select from kept)
$$;

-- The account and the phone number of each number id, as webhooks tell them.
create or replace function waemitter.learn_numbers(numbers text[], accounts text[], displayed text[]) returns void
language sql as $$
  with given as (
    select number, max(account) as account, max(display) as display
    from unnest(numbers, accounts, displayed) as g (number, account, display) group by number),
  locked as materialized (
    select c.name, coalesce(g.account, c.waba_id) as account, coalesce(g.display, c.display_number) as display
    from waemitter.channels c join given g on g.number = c.phone_number_id
    where (c.waba_id, c.display_number) is distinct from (coalesce(g.account, c.waba_id), coalesce(g.display, c.display_number))
    order by c.name for no key update of c)
  update waemitter.channels c set waba_id = l.account, display_number = l.display from locked l where c.name = l.name
$$;

-- The channels of an account; of an account that no channel is known to belong to, the only number that there is, if its own
-- account is not known either.
create or replace function waemitter.channels_of(account text) returns setof text language sql stable as $$
  select c.name from waemitter.channels c where c.waba_id = channels_of.account
  union all
  select c.name from waemitter.channels c
  where c.waba_id is null and c.kind = 'whatsapp' and c.phone_number_id is not null
    and (select count(*) from waemitter.channels o where o.phone_number_id is not null and o.kind = 'whatsapp') = 1
  order by 1
$$;

-- A template is `usable`, `paused` (for a time from `at`, or until more is heard) or `ended`: then its messages fail, or wait
-- when `ended_waits`. Each channel of the account, and how many messages went on, or failed.
create or replace function waemitter.hear_template(
  account text, template text, language text, state text, word text, at timestamptz, pause interval default null,
  reason text default null, ended_waits boolean default false
) returns table (channel text, messages integer) language plpgsql as $$
declare v_until timestamptz := coalesce(at, clock_timestamp()) + pause;
begin
  if not waemitter.is_news(account, 'template_status', template || '/' || language, word, at) then return; end if;
  for channel in select c from waemitter.channels_of(account) c loop
    messages := 0;
    if state = 'usable' then
      messages := waemitter.release_template(channel, template, language);
    elsif state = 'paused' or ended_waits then
      if v_until is null or v_until > clock_timestamp() then
        perform waemitter.hold_template(channel, template, language, concat_ws(': ', word, reason), v_until);
      end if;
    else
      messages := waemitter.fail_template(channel, template, language, 132016,
        format('template: Meta says %s%s', word, coalesce(' (' || reason || ')', '')));
      perform waemitter.release_template(channel, template, language);  -- what was locked just now; and new ones fail by Meta's word
    end if;
    return next;
  end loop;
end $$;

-- Quality, tier or throughput of a number, or (number NULL) of every number of the account. Returns the channels.
create or replace function waemitter.hear_number(
  account text, number text, word text, quality text, tier text, at timestamptz
) returns setof text language plpgsql as $$
#variable_conflict use_variable
begin
  if not waemitter.is_news(account, case when number is null then 'capability' else 'number' end, number,
                           word || coalesce(' ' || tier, ''), at) then
    return;
  end if;
  return query
    with locked as materialized (
      select c.name from waemitter.channels c
      where c.name in (select waemitter.channels_of(account))
        and (number is null or c.display_number = number
             or (c.display_number is null and (select count(*) from waemitter.channels_of(account)) = 1))
      order by c.name for no key update),
    judged as (
      update waemitter.channels c
      set quality = coalesce(hear_number.quality, c.quality), tier = coalesce(hear_number.tier, c.tier)
      from locked l where c.name = l.name returning c.name)
    select j.name from judged j order by 1;
end $$;

-- Meta bars the account from sending, until a time or until it says more: its channels pause, or (`templates_only`) their
-- templates wait and answers to customers go on. A longer pause stands, and so does an operator's. Returns the channels.
create or replace function waemitter.bar_account(
  account text, word text, at timestamptz, until timestamptz default null, templates_only boolean default false
) returns setof text language plpgsql as $$
#variable_conflict use_column
declare v_until timestamptz := coalesce(until, 'infinity');
begin
  if not waemitter.is_news(account, case when templates_only then 'account_templates' else 'account' end, '', word, at)
     or v_until <= clock_timestamp() then
    return;
  end if;
  if templates_only then
    return query
      select c from waemitter.channels_of(account) c
      cross join lateral waemitter.hold_template(c, '', '', word, bar_account.until);
    return;
  end if;
  return query
    select p from waemitter.channels_of(account) c cross join lateral waemitter.pause_channels(
      reason => 'PAUSE_ACCOUNT: ' || word, channel => c, happened => at,
      seconds => case when until is null then 'infinity'
                      else extract(epoch from until - least(coalesce(at, clock_timestamp()), clock_timestamp())) end) p;
end $$;

-- What stopped the account was taken back: the channels that Meta had stopped go on, those of an operator do not.
create or replace function waemitter.free_account(account text, word text, at timestamptz) returns setof text
language plpgsql as $$
#variable_conflict use_column
begin
  if not waemitter.is_news(account, 'account', '', word, at) then return; end if;
  perform waemitter.is_news(account, 'account_templates', '', word, at);
  perform waemitter.release_template(c, '', '') from waemitter.channels_of(account) c
    where exists (select from waemitter.held_templates h where h.channel = c and h.template = '');
  return query
    select r from waemitter.channels_of(account) c
    cross join lateral waemitter.resume_channels(channel => c, reasons => 'PAUSE\_ACCOUNT%') r;
end $$;

-- A person wants no marketing on this number, or wants it again: set in their WhatsApp, and told by Meta. Returns its channel.
create or replace function waemitter.hear_preference(
  number text, wa_id text, user_id text, marketing boolean, at timestamptz
) returns text language plpgsql as $$
declare v_channel text; v_address text;
begin
  select c.name into v_channel from waemitter.channels c
    where c.phone_number_id = number and c.kind = 'whatsapp' order by c.name limit 1;
  if v_channel is null or not waemitter.is_news(v_channel, 'preference', coalesce(user_id, wa_id),
                                                case when marketing then 'resume' else 'stop' end, at) then
    return null;
  end if;
  foreach v_address in array array_remove(array[wa_id, user_id], null) loop
    if marketing then
      perform waemitter.unsuppress(v_address, 'marketing', v_channel, 'marketing_stop');
    else
      perform waemitter.suppress(v_address, 'marketing', v_channel, 'marketing_stop', 'user_preferences');
    end if;
  end loop;
  return v_channel;
end $$;

-- A customer wrote STOP or START, with these addresses: the list follows, and the confirmation, which the list does not
-- concern, is queued. `everywhere`: for all channels. False: old news, or a START of somebody who never stopped us.
create or replace function waemitter.hear_wish(
  wish text, channel text, wa_id text, user_id text, wamid text, at timestamptz, reply text default '',
  everywhere boolean default false, message_id bigint default null
) returns boolean language plpgsql as $$
declare
  v_list text := case when not everywhere then channel end;
  v_address text; v_changed integer := 0;
begin
  if not waemitter.is_news(coalesce(v_list, ''), 'optout', coalesce(user_id, wa_id), wish, at) then return false; end if;
  foreach v_address in array array_remove(array[wa_id, user_id], null) loop
    if wish = 'stop' then
      perform waemitter.suppress(v_address, 'all', v_list, 'stop_word', wamid);
      v_changed := 1;
    else
      v_changed := v_changed + waemitter.unsuppress(v_address, 'all', v_list, 'stop_word');
    end if;
  end loop;
  if v_changed > 0 then update waemitter.inbound_messages i set wish = hear_wish.wish where i.id = message_id; end if;
  if v_changed > 0 and reply <> '' then
    perform waemitter.send_message(recipient => coalesce('+' || wa_id, user_id), message_type => 'text',
      payload => jsonb_build_object('text', jsonb_build_object('body', reply)), channel => channel,
      idempotency_key => 'optout:' || wamid, category => 'service', ordering_key => '');
  end if;
  return v_changed > 0;
end $$;

-- A colleague wrote to a customer on the phone: the conversation is a human's until `at` + `takeover`, and what was written
-- is kept in it. Returns the conversation; NULL: known already, or no channel has that number.
create or replace function waemitter.hear_echo(
  number text, wamid text, wa_id text, user_id text, message_type text, payload text, at timestamptz, takeover interval
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare v_channel text; v_id bigint; v_until timestamptz := coalesce(at, clock_timestamp()) + takeover;
begin
  select c.name into v_channel from waemitter.channels c
    where c.phone_number_id = number and c.kind = 'whatsapp' order by c.name limit 1;
  if v_channel is null then return null; end if;
  insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
    values (wamid, 'message_echoes', number) on conflict do nothing;
  if not found then return null; end if;
  insert into waemitter.conversations as v (channel, contact_id)
    values (v_channel, waemitter.contact_of(v_channel, wa_id, user_id, at => at))
    on conflict (channel, contact_id) do update set updated_at = clock_timestamp() returning v.id into v_id;
  insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, sent_at, from_us)
    values (v_id, wamid, message_type, payload::jsonb, at, true);
  if payload::jsonb -> 'text' ->> 'body' is not null then
    perform waemitter.remember_human_reply(conversation_id => v_id, said => payload::jsonb -> 'text' ->> 'body');
  end if;
  if v_until > clock_timestamp() then
    perform waemitter.take_over_conversation(v_id, v_until - clock_timestamp(), 'a colleague wrote on the phone', extend => true);
  end if;
  return v_id;
end $$;

-- Messages of the past, in the conversations that they belong to: they open no window, and nobody answers them. One that is known
-- already stays as it is, but for a file that was only announced. How many are new; none when no channel has that number.
create or replace function waemitter.import_history(
  number text, wamids text[], wa_ids text[], user_ids text[], types text[], times timestamptz[], from_us boolean[], payloads text[]
) returns integer language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_variable
declare
  r record; v_channel text; v_conversation bigint; v_count integer;
  v_wa_ids text[] := '{}'; v_user_ids text[] := '{}'; v_conversations bigint[] := '{}';
begin
  select c.name into v_channel from waemitter.channels c
    where c.phone_number_id = number and c.kind = 'whatsapp' order by c.name limit 1;
  if v_channel is null then return 0; end if;
  for r in
    select t.wa_id, t.user_id, min(t.at) as at from unnest(wa_ids, user_ids, times) as t (wa_id, user_id, at)
    group by 1, 2 order by coalesce(t.wa_id, t.user_id)
  loop
    insert into waemitter.conversations as v (channel, contact_id)
      values (v_channel, waemitter.contact_of(v_channel, r.wa_id, r.user_id, at => r.at))
      on conflict (channel, contact_id) do update set updated_at = v.updated_at returning v.id into v_conversation;
    v_wa_ids := v_wa_ids || r.wa_id; v_user_ids := v_user_ids || r.user_id; v_conversations := v_conversations || v_conversation;
  end loop;
  with given as materialized (
    select distinct on (p.conversation_id, g.wamid) p.conversation_id, g.*
    from unnest(wamids, wa_ids, user_ids, types, times, from_us, payloads) with ordinality
      as g (wamid, wa_id, user_id, type, at, from_us, payload, n)
    join unnest(v_wa_ids, v_user_ids, v_conversations) as p (wa_id, user_id, conversation_id)
      on coalesce(p.wa_id, p.user_id) = coalesce(g.wa_id, g.user_id)
    order by p.conversation_id, g.wamid, g.type = 'media_placeholder', g.n),
  arrived as (
    update waemitter.inbound_messages m set message_type = g.type, payload = g.payload::jsonb
    from given g
    where m.whatsapp_message_id = g.wamid and m.conversation_id = g.conversation_id
      and m.message_type = 'media_placeholder' and g.type <> 'media_placeholder'),
  kept as (
    insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, sent_at, from_us)
    select g.conversation_id, g.wamid, g.type, g.payload::jsonb, g.at, g.from_us from given g
    where not exists (select from waemitter.inbound_messages m
                      where m.whatsapp_message_id = g.wamid and m.conversation_id = g.conversation_id)
    order by g.at nulls first, g.n returning 1)
  select count(*) into v_count from kept;
  return v_count;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Chatwoot. Locks: keys, contacts, conversations, then messages of the outbox; each webhook is a transaction of its own.

-- Our conversation behind one of Chatwoot's. One that is not known: made for the conversation `source_id` names (its contact in
-- Chatwoot was made from here), or written to by an agent of his own accord (`by_agent`: then it is the latest one of a number with
-- that phone), else the inbox's own. NULL: an agent wrote to somebody who is not known. The row is locked.
create or replace function waemitter.chatwoot_conversation(
  channel text, chatwoot_id bigint, wa_id text, user_id text, name text, source_id text, by_agent boolean
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint;
begin
  select l.conversation_id into v_id from waemitter.chatwoot_conversations l
    where l.channel = chatwoot_conversation.channel and l.chatwoot_id = chatwoot_conversation.chatwoot_id;
  if v_id is null and source_id ~ '^conversation:[0-9]{1,18}$' then
    select v.id into v_id from waemitter.conversations v where v.id = split_part(source_id, ':', 2)::bigint;
  end if;
  if v_id is null and by_agent then
    select v.id into v_id from waemitter.contact_addresses a
      join waemitter.conversations v on v.contact_id = a.contact_id and v.channel = a.channel
      join waemitter.channels h on h.name = v.channel
      where a.address = wa_id and (h.kind = 'whatsapp' or h.name = chatwoot_conversation.channel)
      order by h.name = chatwoot_conversation.channel desc, v.last_inbound_at desc nulls last limit 1;
    if v_id is null then return null; end if;
  end if;
  if v_id is null then
    insert into waemitter.conversations as v (channel, contact_id)
      values (channel, waemitter.contact_of(channel, wa_id, user_id, name => name))
      on conflict on constraint conversations_channel_contact_id_key do update set updated_at = clock_timestamp()
      returning v.id into v_id;
  end if;
  perform from waemitter.conversations v where v.id = v_id for no key update;
  insert into waemitter.chatwoot_conversations (channel, chatwoot_id, conversation_id) values (channel, chatwoot_id, v_id)
    on conflict do nothing;
  return v_id;
end $$;

-- What Chatwoot tells of a conversation's status and assignee (`tells`: the document says who, if anybody, has it): one who is
-- assigned takes it over, if `assigns`; it is handed back when he is not any more, and when it is resolved, which ends the session
-- too (he stays assigned there, and has it again when he writes, or somebody is assigned anew). News only: what is older than the
-- latest that was told changes nothing. Returns taken, returned, or NULL.
create or replace function waemitter.hear_chatwoot_state(
  channel text, chatwoot_id bigint, status text, assignee_id bigint, tells boolean, at timestamptz, takeover interval, assigns boolean
) returns text language plpgsql as $$
#variable_conflict use_variable
declare was waemitter.chatwoot_conversations; v_known bigint;
begin
  select l.conversation_id into v_known from waemitter.chatwoot_conversations l
    where l.channel = hear_chatwoot_state.channel and l.chatwoot_id = hear_chatwoot_state.chatwoot_id;
  perform from waemitter.conversations v where v.id = v_known for no key update;
  select * into was from waemitter.chatwoot_conversations l
    where l.channel = hear_chatwoot_state.channel and l.chatwoot_id = hear_chatwoot_state.chatwoot_id for no key update;
  if not found or at < was.told_at then return null; end if;
  update waemitter.chatwoot_conversations l
    set status = coalesce(hear_chatwoot_state.status, l.status), told_at = coalesce(at, l.told_at),
        assignee_id = case when tells then hear_chatwoot_state.assignee_id else l.assignee_id end
    where l.channel = hear_chatwoot_state.channel and l.chatwoot_id = hear_chatwoot_state.chatwoot_id;
  if status = 'resolved' then
    if was.status is not distinct from 'resolved' then return null; end if;
    update waemitter.user_sessions s set active_service = null, updated_at = clock_timestamp()
      from waemitter.conversations v
      where v.id = was.conversation_id and s.channel = v.channel and s.contact_id = v.contact_id and s.active_service is not null;
    return case when waemitter.hand_back_conversation(was.conversation_id, 'resolved in Chatwoot') then 'returned' end;
  end if;
  if not tells or not assigns or was.assignee_id is not distinct from assignee_id then return null; end if;
  if assignee_id is null then
    return case when was.assignee_id is not null
                     and waemitter.hand_back_conversation(was.conversation_id, 'nobody is assigned in Chatwoot') then 'returned' end;
  end if;
  perform waemitter.take_over_conversation(was.conversation_id, takeover, 'assigned in Chatwoot', extend => true);
  return 'taken';
end $$;

-- What a customer wrote in an inbox, or had written to a number (then it is known here, and `ours`): kept once, each part a message.
-- `result`: received, duplicate or ours.
create or replace function waemitter.receive_chatwoot_message(
  channel text, chatwoot_id bigint, key text, ids text[], types text[], payloads text[], wa_id text, user_id text, name text,
  source_id text, at timestamptz, webhook_id bigint
) returns table (result text, message_id bigint, conversation_id bigint, contact_id bigint) language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint; v waemitter.conversations;
begin
  insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
    values (key, 'chatwoot', channel) on conflict do nothing;
  if not found then
    result := 'duplicate'; return next; return;
  end if;
  v_id := waemitter.chatwoot_conversation(channel, chatwoot_id, wa_id, user_id, name, source_id, false);
  select * into v from waemitter.conversations x where x.id = v_id;
  if v.channel <> receive_chatwoot_message.channel then
    result := 'ours'; conversation_id := v_id; return next; return;
  end if;
  update waemitter.conversations x
    set last_inbound_at = greatest(x.last_inbound_at, least(coalesce(at, clock_timestamp()), clock_timestamp())),
        updated_at = clock_timestamp()
    where x.id = v_id;
  return query
    with kept as (
      insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, sent_at, webhook_id)
      select v_id, g.id, g.type, g.payload::jsonb, at, webhook_id
      from unnest(ids, types, payloads) with ordinality as g (id, type, payload, n) order by g.n
      returning id)
    select 'received', k.id, v_id, v.contact_id from kept k order by k.id;
end $$;

-- What an agent wrote in Chatwoot: to a number's customer it goes through the outbox, once; in an inbox that Chatwoot itself
-- delivers it is kept. Either way the conversation is his until `at` + `takeover`, and agents get to see it. `result`: sent, kept,
-- duplicate, or unknown: nobody here has written to or from that phone.
create or replace function waemitter.hear_agent(
  channel text, chatwoot_id bigint, key text, replies jsonb, said text, wa_id text, user_id text, name text, source_id text,
  at timestamptz, takeover interval, webhook_id bigint, correlation_id text
) returns table (result text, conversation_id bigint, message_ids bigint[]) language plpgsql as $$
#variable_conflict use_variable
declare v waemitter.conversations; c waemitter.contacts; v_until timestamptz := coalesce(at, clock_timestamp()) + takeover;
begin
  message_ids := '{}';
  insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
    values (key, 'chatwoot', channel) on conflict do nothing;
  if not found then
    result := 'duplicate'; return next; return;
  end if;
  conversation_id := waemitter.chatwoot_conversation(channel, chatwoot_id, wa_id, user_id, name, source_id, true);
  if conversation_id is null then
    result := 'unknown'; return next; return;
  end if;
  select * into v from waemitter.conversations x where x.id = conversation_id;
  select * into c from waemitter.contacts x where x.id = v.contact_id;
  if v.channel = hear_agent.channel then
    result := 'kept';
    insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, sent_at, webhook_id, from_us)
      select v.id, format('%s.%s', key, r.n), r.reply ->> 'type', r.reply, at, webhook_id, true
      from jsonb_array_elements(replies) with ordinality as r (reply, n) order by r.n;
  else
    result := 'sent';
    with sent as (
      insert into waemitter.outbox_messages (recipient, message_type, payload, channel, idempotency_key, correlation_id, category)
        select coalesce(c.phone, c.user_id), r.reply ->> 'type', r.reply - 'type', v.channel, format('%s:%s:%s', channel, key, r.n),
               correlation_id, 'service'
        from jsonb_array_elements(replies) with ordinality as r (reply, n) order by r.n
        on conflict do nothing returning id)
    select coalesce(array_agg(s.id order by s.id), '{}') into message_ids from sent s;
  end if;
  if said <> '' then
    perform waemitter.remember_human_reply(conversation_id => v.id, said => said);
  end if;
  if v_until > clock_timestamp() then
    perform waemitter.take_over_conversation(v.id, v_until - clock_timestamp(), 'an agent answered in Chatwoot', extend => true);
  end if;
  return next;
end $$;

-- Where a row of an inbox goes: our conversation (made, for somebody who is new), its place in Chatwoot if it has one, and what a
-- contact there needs. The recipient is `conversation:<id>` of one of a number, else a phone or id of the inbox's own contacts.
create or replace function waemitter.chatwoot_target(channel text, recipient text)
returns table (conversation_id bigint, chatwoot_id bigint, identifier text, phone text, name text) language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint; v_address text := waemitter.address(recipient);
begin
  if recipient ~ '^conversation:[0-9]{1,18}$' then
    v_id := split_part(recipient, ':', 2)::bigint;
  else
    select v.id into v_id from waemitter.contact_addresses a
      join waemitter.conversations v on v.channel = a.channel and v.contact_id = a.contact_id
      where a.channel = chatwoot_target.channel and a.address = v_address;
    if v_id is null and v_address ~ '^[0-9]{7,15}$' then
      insert into waemitter.conversations as v (channel, contact_id) values (channel, waemitter.contact_of(channel, v_address))
        on conflict on constraint conversations_channel_contact_id_key do update set updated_at = clock_timestamp()
        returning v.id into v_id;
    end if;
  end if;
  return query
    select v.id, (select l.chatwoot_id from waemitter.chatwoot_conversations l
                  where l.channel = chatwoot_target.channel and l.conversation_id = v.id order by l.chatwoot_id desc limit 1),
           coalesce(c.wa_id, c.user_id, c.group_id), c.phone, c.name
    from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id where v.id = v_id;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Turns.

-- Whether a switch is on for a contact; an unknown one is off. A share of the contacts is always the same ones.
create or replace function waemitter.flag_enabled(flag_name text, contact_id bigint default null) returns boolean
language sql stable as $$
  select coalesce((
    select f.is_enabled and (f.rollout_percent = 100 or (flag_enabled.contact_id is not null
        and (hashint8extended(flag_enabled.contact_id, hashtextextended(f.flag_name, 0)) & 9223372036854775807) % 100
            < f.rollout_percent))
    from waemitter.feature_flags f where f.flag_name = flag_enabled.flag_name), false)
$$;

-- Where a conversation stands when nobody works on it.
create or replace function waemitter.resting_status(conversation_id bigint, takeover_until timestamptz) returns text
language sql stable as $$
  select case when takeover_until > clock_timestamp() then 'human'
              when exists (select from waemitter.message_buffer b
                           where b.conversation_id = resting_status.conversation_id and b.closes_at is not null) then 'buffering'
              else 'idle' end
$$;

-- Change a conversation's status, and tell so. The caller holds its row.
create or replace function waemitter.move_conversation(
  id bigint, to_status text, reason text, correlation_id text default null
) returns void language sql as $$
  with was as materialized (select v.id, v.status from waemitter.conversations v where v.id = move_conversation.id),
  moved as (
    update waemitter.conversations v set status = to_status, updated_at = clock_timestamp()
    from was where v.id = was.id and was.status <> to_status)
  insert into waemitter.conversation_state_transitions (conversation_id, from_status, to_status, reason, correlation_id)
  select was.id, was.status, to_status, reason, correlation_id from was where was.status <> to_status
$$;

-- A person answers from now on: turns end without an answer, also one that is in progress. For `takeover`, NULL = until handed back;
-- `extend`: one that lasts longer stays as it is. Returns until when ('infinity'), NULL when there is no such conversation.
create or replace function waemitter.take_over_conversation(
  conversation_id bigint, takeover interval default null, reason text default 'by hand', extend boolean default false,
  correlation_id text default null
) returns timestamptz language plpgsql as $$
#variable_conflict use_variable
declare v waemitter.conversations;
begin
  update waemitter.conversations x
    set takeover_until = greatest(coalesce(clock_timestamp() + takeover, 'infinity'), case when extend then x.takeover_until end),
        updated_at = clock_timestamp()
    where x.id = conversation_id returning * into v;
  if v.lock_id is null then
    perform waemitter.move_conversation(v.id, 'human', reason, correlation_id);
  end if;
  return v.takeover_until;
end $$;

-- The daemon answers again. False: no person had it.
create or replace function waemitter.hand_back_conversation(
  conversation_id bigint, reason text default 'by hand', correlation_id text default null
) returns boolean language plpgsql as $$
#variable_conflict use_variable
declare v waemitter.conversations;
begin
  select * into v from waemitter.conversations x where x.id = conversation_id and x.takeover_until is not null for no key update;
  if not found then return false; end if;
  update waemitter.conversations x set takeover_until = null, updated_at = clock_timestamp() where x.id = conversation_id;
  if v.lock_id is null then
    perform waemitter.move_conversation(v.id, waemitter.resting_status(v.id, null), reason, correlation_id);
  end if;
  return v.takeover_until > clock_timestamp();
end $$;

-- Put messages into their conversations' windows; the caller's transaction has just kept them, and holds the conversations.
-- `durations` and `ages` in seconds; `sliding`: the duration counts from each message; `at_once`: the window closes with it.
-- `rate`: messages of one conversation that are taken in a minute; `enhanced`: instead of its flag. What is written to a person who
-- has the conversation waits for nothing, and is not counted. `result`: opened, joined, closed (full, or at once), or rate_limited:
-- it is kept, and nobody answers it.
create or replace function waemitter.buffer_messages(
  message_ids bigint[], durations float8[], ages float8[], sizes integer[], sliding boolean[], at_once boolean[], rate integer,
  enhanced boolean default null
) returns table (message_id bigint, conversation_id bigint, buffer_id bigint, result text) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare
  r record; b waemitter.message_buffer; v_now timestamptz := clock_timestamp(); v_closes timestamptz; v_known timestamptz;
  v_ring boolean := false; v_size integer; v_close boolean; v_direct boolean;
begin
  perform set_config('waemitter.quiet', 'on', true);
  perform from waemitter.conversations v where v.id in (
    select i.conversation_id from waemitter.inbound_messages i where i.id = any (message_ids)) order by v.id for no key update;
  -- what is due within a second may be claimed, and the next due time be read, before this commits
  select min(m.closes_at) into v_known from waemitter.message_buffer m where m.closes_at > v_now + interval '1 second';
  for r in
    select g.*, i.conversation_id, i.whatsapp_message_id, i.message_type, i.payload, i.sent_at, v.status,
           coalesce(v.takeover_until > v_now, false) as human,
           waemitter.flag_enabled('message_buffering', v.contact_id)
             and coalesce(enhanced, waemitter.flag_enabled('enhanced_processing', v.contact_id)) as gathers
    from unnest(message_ids, durations, ages, sizes, sliding, at_once)
      with ordinality as g (id, duration, age, size, sliding, at_once, n)
    join waemitter.inbound_messages i on i.id = g.id
    join waemitter.conversations v on v.id = i.conversation_id
    order by i.conversation_id, i.sent_at nulls last, g.n
  loop
    message_id := r.id; conversation_id := r.conversation_id; buffer_id := null;
    update waemitter.conversations v set
        rate_since = case when v.rate_since > v_now - interval '1 minute' then v.rate_since else v_now end,
        rate_count = case when v.rate_since > v_now - interval '1 minute' then v.rate_count + 1 else 1 end
      where v.id = r.conversation_id
        and (rate is null or r.human or v.rate_count < rate or coalesce(v.rate_since, '-infinity') <= v_now - interval '1 minute');
    if not found then
      result := 'rate_limited';
      return next;
      continue;
    end if;
    v_direct := r.at_once or r.human or not r.gathers;
    v_closes := v_now + make_interval(secs => case when v_direct then 0 else least(r.duration, r.age) end);
    select * into b from waemitter.message_buffer m where m.conversation_id = r.conversation_id and m.status = 'open';
    if b.id is null then
      insert into waemitter.message_buffer (conversation_id, buffer_start_time, closes_at, oldest_at)
        values (r.conversation_id, v_now, v_closes, v_now + make_interval(secs => r.age)) returning * into b;
      insert into waemitter.buffer_processing_jobs (buffer_id) values (b.id);
      result := 'opened';
      if not exists (select from waemitter.conversations v where v.id = r.conversation_id and v.lock_id is not null
                     and v.lock_expires_at > v_now) then
        perform waemitter.move_conversation(v.id, waemitter.resting_status(v.id, v.takeover_until), 'a window opened')
          from waemitter.conversations v where v.id = r.conversation_id;
      end if;
    else
      result := 'joined';
      v_closes := case when v_direct then v_closes
                       when r.sliding then least(v_closes, b.oldest_at)
                       when b.waits then b.closes_at
                       else least(b.closes_at, v_closes) end;
    end if;
    insert into waemitter.buffered_messages (buffer_id, whatsapp_message_id, message_type, payload, sent_at, inbound_id)
      values (b.id, r.whatsapp_message_id, r.message_type, r.payload, r.sent_at, r.id);
    v_close := v_direct or b.message_count + 1 >= r.size;
    if v_close then
      v_closes := least(v_now, v_closes);
      result := case when result = 'opened' then 'opened' else 'closed' end;
    end if;
    update waemitter.message_buffer m set
        message_count = m.message_count + 1, closes_at = v_closes,
        waits = m.waits and v_closes = m.closes_at,
        status = case when v_close then 'processing' else m.status end,
        closed_at = case when v_close then v_closes else m.closed_at end,
        flush_reason = case when v_direct then 'at_once' when v_close then 'size' else m.flush_reason end
      where m.id = b.id;
    v_ring := v_ring or v_closes < coalesce(v_known, 'infinity');
    buffer_id := b.id;
    return next;
  end loop;
  perform set_config('waemitter.quiet', '', true);
  if v_ring then notify waemitter_buffer; end if;
end $$;

-- What webhooks tell beside messages, each a turn of its own at once: in the conversation of the person or the group whom it
-- concerns, else in that of the account (or the number). An open window stays as it is, and comes first. A `key` that is known
-- gives nothing, nor does a number or an account of no channel. `times` in seconds since 1970.
create or replace function waemitter.offer_changes(
  numbers text[], accounts text[], keys text[], fields text[], wa_ids text[], user_ids text[], group_ids text[], names text[],
  times float8[], payloads text[]
) returns table (message_id bigint, conversation_id bigint, buffer_id bigint, result text) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare r record; v_contact bigint; v_now timestamptz := clock_timestamp(); v_rang boolean := false;
begin
  perform set_config('waemitter.quiet', 'on', true);
  for r in
    select g.*, to_timestamp(g.seconds) as at, coalesce(
        (select c.name from waemitter.channels c
         where c.phone_number_id = g.number and c.kind = 'whatsapp' order by c.name limit 1),
        (select a from waemitter.channels_of(g.account) a order by a limit 1)) as channel
    from unnest(numbers, accounts, keys, fields, wa_ids, user_ids, group_ids, names, times, payloads) with ordinality
      as g (number, account, key, field, wa_id, user_id, group_id, name, seconds, payload, n)
    order by coalesce(g.wa_id, g.user_id, g.group_id, g.account, g.number), g.n
  loop
    continue when r.channel is null or coalesce(r.wa_id, r.user_id, r.group_id, r.account, r.number) is null;
    if r.key is not null then
      insert into waemitter.processed_webhook_messages (whatsapp_message_id, field, scope)
        values (r.key, r.field, coalesce(r.number, r.account)) on conflict do nothing;
      continue when not found;
    end if;
    v_contact := waemitter.contact_of(r.channel, r.wa_id, r.user_id,
      case when r.wa_id is null and r.user_id is null then coalesce(r.group_id, r.account, r.number) end, r.name, at => r.at);
    insert into waemitter.conversations as v (channel, contact_id) values (r.channel, v_contact)
      on conflict (channel, contact_id) do update set updated_at = v_now returning v.id into conversation_id;
    insert into waemitter.inbound_messages as m (conversation_id, whatsapp_message_id, message_type, payload, sent_at)
      values (conversation_id, r.payload::jsonb ->> 'id', r.field, r.payload::jsonb, r.at) returning m.id into message_id;
    insert into waemitter.message_buffer as b
      (conversation_id, status, message_count, buffer_start_time, closes_at, oldest_at, closed_at, flush_reason, field)
      values (conversation_id, 'processing', 1, v_now, v_now, v_now, v_now, 'at_once', r.field) returning b.id into buffer_id;
    insert into waemitter.buffer_processing_jobs (buffer_id) values (buffer_id);
    insert into waemitter.buffered_messages (buffer_id, whatsapp_message_id, message_type, payload, sent_at, inbound_id)
      values (buffer_id, r.payload::jsonb ->> 'id', r.field, r.payload::jsonb, r.at, message_id);
    result := 'opened';
    v_rang := true;
    return next;
  end loop;
  perform set_config('waemitter.quiet', '', true);
  if v_rang then notify waemitter_buffer; end if;
end $$;

-- Buffers of a conversation that were due while it was at work are due again. The caller holds the conversation.
create or replace function waemitter.wake_buffers(conversation_id bigint) returns integer language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare v_woken integer; v_quiet text := coalesce(current_setting('waemitter.quiet', true), '');
begin
  perform set_config('waemitter.quiet', 'on', true);
  update waemitter.message_buffer b set closes_at = clock_timestamp(), waits = false
    where b.conversation_id = wake_buffers.conversation_id and b.closes_at is not null and b.waits;
  get diagnostics v_woken = row_count;
  perform set_config('waemitter.quiet', v_quiet, true);
  if v_woken > 0 then notify waemitter_buffer; end if;
  return v_woken;
end $$;

-- The lock of a conversation, for whoever works on it beside the daemon: for two minutes, and again with each call of its
-- holder. True: it is yours. Each new holder gets a higher fence.
create or replace function waemitter.acquire_conversation_lock(
  conversation_id bigint, lock_id uuid, correlation_id text default null
) returns boolean language plpgsql as $$
#variable_conflict use_variable
begin
  update waemitter.conversations v set
      fence = v.fence + case when v.lock_id = acquire_conversation_lock.lock_id then 0 else 1 end,
      lock_id = acquire_conversation_lock.lock_id, correlation_id = acquire_conversation_lock.correlation_id,
      locked_at = clock_timestamp(),
      lock_expires_at = clock_timestamp() + interval '2 minutes', updated_at = clock_timestamp()
    where v.id = acquire_conversation_lock.conversation_id
      and (v.lock_id is null or v.lock_id = acquire_conversation_lock.lock_id or v.lock_expires_at <= clock_timestamp());
  return found;
end $$;

-- True: it was yours, and is free. What waited for it goes on.
create or replace function waemitter.release_conversation_lock(
  conversation_id bigint, lock_id uuid, correlation_id text default null
) returns boolean language plpgsql as $$
#variable_conflict use_variable
begin
  update waemitter.conversations v set lock_id = null, locked_at = null, lock_expires_at = null, updated_at = clock_timestamp()
    where v.id = release_conversation_lock.conversation_id and v.lock_id = release_conversation_lock.lock_id;
  if not found then return false; end if;
  perform waemitter.wake_buffers(conversation_id);
  return true;
end $$;

-- Free a conversation, whoever has its lock: what he still writes has no effect, and his turn is due. False: nobody had it.
create or replace function waemitter.unlock_conversation(conversation_id bigint, reason text default 'by hand') returns boolean
language plpgsql as $$
#variable_conflict use_variable
declare v waemitter.conversations;
begin
  select * into v from waemitter.conversations x
    where x.id = conversation_id and (x.lock_id is not null or x.status = 'processing') for no key update;
  if not found then return false; end if;
  update waemitter.conversations x set lock_id = null, locked_at = null, lock_expires_at = null where x.id = v.id;
  update waemitter.message_buffer b set waits = true
    where b.conversation_id = v.id and b.closes_at is not null and b.status = 'processing';
  perform waemitter.move_conversation(v.id, waemitter.resting_status(v.id, v.takeover_until), reason, v.correlation_id);
  perform waemitter.wake_buffers(v.id);
  return true;
end $$;

-- Free conversations whose holder is gone, and those that were left in `processing`; their turns are due. How many. Those that
-- are still called a person's whose time is over are the daemon's again.
create or replace function waemitter.cleanup_stuck_webhook_conversations() returns integer language plpgsql as $$
declare v_id bigint; v_count integer := 0;
begin
  for v_id in
    select v.id from waemitter.conversations v
    where (v.lock_id is not null and v.lock_expires_at <= clock_timestamp()) or (v.status = 'processing' and v.lock_id is null)
    order by v.id for no key update skip locked
  loop
    perform waemitter.unlock_conversation(v_id, 'its lock had run out');
    v_count := v_count + 1;
  end loop;
  for v_id in
    select v.id from waemitter.conversations v
    where v.status = 'human' and v.lock_id is null and coalesce(v.takeover_until, '-infinity') <= clock_timestamp()
    order by v.id for no key update skip locked
  loop
    perform waemitter.move_conversation(v_id, waemitter.resting_status(v_id, null), 'its time with a human is over');
  end loop;
  return v_count;
end $$;

-- The switch of all work on buffers: while it is off they fill and wait. Returns what it is now.
create or replace function waemitter.toggle_buffer_processing(enabled boolean) returns boolean language sql as $$
  insert into waemitter.feature_flags as f (flag_name, is_enabled) values ('buffer_processing', enabled)
  on conflict (flag_name) do update set is_enabled = excluded.is_enabled, updated_at = clock_timestamp()
  returning f.is_enabled
$$;

-- Close every open window now. Returns how many.
create or replace function waemitter.trigger_buffer_processing() returns integer language plpgsql as $$
declare v_count integer;
begin
  perform from waemitter.conversations v where v.id in (
    select b.conversation_id from waemitter.message_buffer b where b.status = 'open') order by v.id for no key update;
  update waemitter.message_buffer b set closes_at = clock_timestamp(), flush_reason = 'trigger'
    where b.status = 'open' and b.closes_at > clock_timestamp();
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Claim turns that are due: each has its conversation's lock for `lease`, and counts an attempt. A turn whose conversation
-- is at work, or has an older turn unfinished, waits until that ends. `ttl`: of sessions.
--
-- Always returns at least one row; one without turn_id when nothing was claimed. On every row `next_due`: seconds until the
-- next turn is due, NULL = nothing waits.
create or replace function waemitter.claim_turns(
  max_rows integer, lease interval, ttl interval, only_turn bigint default null
) returns table (
  turn_id bigint, conversation_id bigint, lock_id uuid, fence bigint, attempt integer, channel text, correlation_id text,
  contact_id bigint, wa_id text, user_id text, phone text, name text, active_service text, context text, messages text,
  buffering boolean, enhanced boolean, quality boolean, human boolean, superseded integer, reason text, late float8,
  resume text, next_due float8
) language plpgsql set plan_cache_mode = force_generic_plan
  set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare v_now timestamptz; v_candidates bigint[]; v_conversations bigint[]; v_turns bigint[];
begin
  perform waemitter.outgrow_plans('waemitter.message_buffer');
  if only_turn is null and not waemitter.flag_enabled('buffer_processing') then
    return next;
    return;
  end if;
  perform set_config('waemitter.quiet', 'on', true);
  v_now := clock_timestamp();
  select array_agg(d.conversation_id) into v_candidates from (
    select b.conversation_id from waemitter.message_buffer b
    where b.closes_at <= v_now and only_turn is null order by b.closes_at, b.id limit max_rows) d;
  if only_turn is not null then
    select array_agg(b.conversation_id) into v_candidates from waemitter.message_buffer b where b.id = only_turn;
  end if;
  select array_agg(v.id) into v_conversations from (
    select v.id from waemitter.conversations v where v.id = any (v_candidates) order by v.id for no key update skip locked) v;
  v_now := clock_timestamp();
  -- the oldest unfinished turn of each conversation that is free
  select array_agg(f.id) into v_turns from waemitter.conversations v
    cross join lateral (
      select b.id, b.closes_at from waemitter.message_buffer b
      where b.conversation_id = v.id and b.closes_at is not null order by b.id limit 1) f
    where v.id = any (v_conversations) and (v.lock_id is null or v.lock_expires_at <= v_now) and f.closes_at <= v_now
      and (only_turn is null or f.id = only_turn);
  perform from waemitter.message_buffer b
    where b.conversation_id = any (v_conversations) and b.closes_at is not null order by b.id for no key update;
  update waemitter.message_buffer b set waits = true,
      closes_at = greatest(coalesce(v.lock_expires_at, '-infinity'), v_now + lease)
    from waemitter.conversations v
    where v.id = b.conversation_id and b.conversation_id = any (v_conversations) and b.closes_at <= v_now
      and not (b.id = any (coalesce(v_turns, '{}'))) and only_turn is null;
  insert into waemitter.conversation_state_transitions (conversation_id, from_status, to_status, reason, correlation_id)
    select v.id, v.status, 'processing', 'a turn began', b.correlation_id
    from waemitter.message_buffer b join waemitter.conversations v on v.id = b.conversation_id
    where b.id = any (v_turns) and v.status <> 'processing' order by v.id;
  return query
    with locked as (
      update waemitter.conversations v set
        status = 'processing', lock_id = gen_random_uuid(), locked_at = v_now, lock_expires_at = v_now + lease,
        fence = v.fence + 1, updated_at = v_now
      from waemitter.message_buffer b where b.id = any (v_turns) and v.id = b.conversation_id
      returning v.*, b.id as turn_id),
    taken as (
      update waemitter.message_buffer b set status = 'processing', waits = false, closes_at = v_now + lease,
        closed_at = coalesce(b.closed_at, b.closes_at),
        flush_reason = coalesce(b.flush_reason, case when b.closes_at >= b.oldest_at then 'age' else 'time' end)
      where b.id = any (v_turns) returning b.*),
    job as (
      update waemitter.buffer_processing_jobs j set status = 'processing', attempts = j.attempts + 1, updated_at = v_now
      where j.buffer_id = any (v_turns) returning j.buffer_id, j.attempts)
    select t.id, l.id, l.lock_id, l.fence, j.attempts, l.channel, t.correlation_id,
      c.id, c.wa_id, c.user_id, c.phone, c.name, s.active_service, coalesce(s.context, '{}')::text,
      coalesce((select jsonb_agg(m.payload order by m.sent_at nulls last, m.inbound_id, m.id)
                from waemitter.buffered_messages m where m.buffer_id = t.id), '[]')::text,
      waemitter.flag_enabled('message_buffering', c.id), waemitter.flag_enabled('enhanced_processing', c.id),
      waemitter.flag_enabled('response_quality_enhancement', c.id), coalesce(l.takeover_until > v_now, false),
      t.superseded::integer, t.flush_reason, extract(epoch from v_now - t.closed_at)::float8, t.resume::text, 0::float8
    from taken t join locked l on l.turn_id = t.id join job j on j.buffer_id = t.id
    join waemitter.contacts c on c.id = l.contact_id
    left join waemitter.user_sessions s on s.channel = l.channel and s.contact_id = c.id
      and s.last_interaction > v_now - ttl
    order by t.id;
  perform set_config('waemitter.quiet', '', true);
  if v_turns is null then
    select extract(epoch from min(b.closes_at) - clock_timestamp()) into next_due
      from waemitter.message_buffer b where b.closes_at is not null;
    return next;
  end if;
end $$;

-- The holder of a turn's lock holds it for another `lease`. False: somebody else has it, or the turn is over.
create or replace function waemitter.renew_turn(turn_id bigint, lock_id uuid, fence bigint, lease interval) returns boolean
language plpgsql as $$
#variable_conflict use_variable
begin
  perform set_config('waemitter.quiet', 'on', true);
  update waemitter.conversations v set locked_at = clock_timestamp(), lock_expires_at = clock_timestamp() + lease
    from waemitter.message_buffer b
    where b.id = turn_id and v.id = b.conversation_id and v.lock_id = renew_turn.lock_id and v.fence = renew_turn.fence;
  if not found then return false; end if;
  update waemitter.message_buffer b set closes_at = clock_timestamp() + lease where b.id = turn_id;
  return true;
end $$;

-- Hold the conversation of a turn, for those who end it: its id, or NULL when the lock is somebody else's by now.
create or replace function waemitter.hold_turn(turn_id bigint, lock_id uuid, fence bigint) returns bigint language sql as $$
  select v.id from waemitter.conversations v
  where v.id = (select b.conversation_id from waemitter.message_buffer b where b.id = hold_turn.turn_id)
    and v.lock_id = hold_turn.lock_id and v.fence = hold_turn.fence
  for no key update
$$;

-- Let a conversation go that hold_turn() holds: its status is told, and what waited goes on.
create or replace function waemitter.let_go(conversation_id bigint, to_status text, reason text, correlation_id text) returns void
language plpgsql as $$
#variable_conflict use_variable
begin
  with was as materialized (
    select v.id, v.status as old, coalesce(to_status, waemitter.resting_status(v.id, v.takeover_until)) as new
    from waemitter.conversations v where v.id = conversation_id for no key update),
  freed as (
    update waemitter.conversations v set status = was.new, lock_id = null, locked_at = null, lock_expires_at = null,
      updated_at = case when was.new <> was.old then clock_timestamp() else v.updated_at end
    from was where v.id = was.id)
  insert into waemitter.conversation_state_transitions (conversation_id, from_status, to_status, reason, correlation_id)
    select was.id, was.old, was.new, reason, correlation_id from was where was.new <> was.old;
  perform waemitter.wake_buffers(conversation_id);
end $$;

-- A session that there is not, or not any more.
create or replace function waemitter.no_session() returns jsonb language sql immutable as $$
  select '{"active_service": null, "context": {}}'::jsonb
$$;

-- A contact's session as it is now. One that is older than `ttl` is over, unless it is `alive` for whoever asks: a turn that
-- began in time. The caller holds the conversation, as everybody does who changes a session.
create or replace function waemitter.session_of(channel text, contact_id bigint, ttl interval, alive boolean default false)
returns jsonb language sql stable as $$
  select coalesce((
    select jsonb_build_object('active_service', s.active_service, 'context', s.context) from waemitter.user_sessions s
    where s.channel = session_of.channel and s.contact_id = session_of.contact_id
      and (alive or s.last_interaction > clock_timestamp() - ttl)), waemitter.no_session())
$$;

-- A session that a turn found as `before` and wants to be `after`, when it is `current` by now: what the turn changed is the
-- turn's, key by key of the context, and what somebody else changed meanwhile stays.
create or replace function waemitter.merge_session(current jsonb, before jsonb, after jsonb) returns jsonb language sql immutable as $$
  select case when current = before then after else jsonb_build_object(
    'active_service', case when after -> 'active_service' = before -> 'active_service' then current -> 'active_service'
                           else after -> 'active_service' end,
    'context', (current -> 'context')
      - array(select k from jsonb_object_keys(before -> 'context') k where not (after -> 'context') ? k)
      || coalesce((select jsonb_object_agg(a.key, a.value) from jsonb_each(after -> 'context') a
                   where before -> 'context' -> a.key is distinct from a.value), '{}')) end
$$;

-- A note for the people of a desk, before the first words that a customer has for them, and before the first after the
-- conversation was resolved there: the newest 20 messages of both sides since then. Not of this turn, nor of later ones, whose
-- words go there by themselves. Once: the note has the moment of the resolution in its key.
create or replace function waemitter.put_transcript(conversation_id bigint, turn_id bigint, desk text, correlation_id text)
returns void language plpgsql as $$
#variable_conflict use_variable
declare l waemitter.chatwoot_conversations; v waemitter.conversations; v_address text; v_said jsonb;
begin
  select * into l from waemitter.chatwoot_conversations x
    where x.channel = desk and x.conversation_id = put_transcript.conversation_id order by x.chatwoot_id desc limit 1;
  if found and l.status is distinct from 'resolved' then return; end if;
  select * into v from waemitter.conversations x where x.id = conversation_id;
  select waemitter.address(coalesce(c.phone, c.user_id)) into v_address from waemitter.contacts c where c.id = v.contact_id;
  select jsonb_agg(jsonb_build_object('at', m.at, 'from', m.author, 'message', m.message) order by m.at, m.author desc) into v_said
  from (
    select * from (
      (select case when i.sent_at < i.created_at - interval '1 minute' then i.sent_at else i.created_at end as at,  -- it came late
              case when i.from_us then 'colleague' else 'customer' end as author,
              jsonb_build_object('type', i.message_type, i.message_type, i.payload -> i.message_type) as message
       from waemitter.inbound_messages i
       where i.conversation_id = put_transcript.conversation_id and (l.told_at is null or i.created_at > l.told_at)
         and not exists (
           select from waemitter.buffered_messages s join waemitter.message_buffer b on b.id = s.buffer_id
           where s.whatsapp_message_id = i.whatsapp_message_id and b.conversation_id = i.conversation_id and b.id >= turn_id)
       order by i.id desc limit 20)
      union all
      (select o.claimed_at, case when o.idempotency_key ~ '^turn:' then 'bot' else 'us' end,
              o.payload || jsonb_build_object('type', o.message_type)
       from waemitter.outbox_messages o
       where o.channel = v.channel and waemitter.address(o.recipient) = v_address and o.available_at is null and o.lane <> ''
         and o.status in ('sent', 'delivered', 'read') and (l.told_at is null or o.claimed_at > l.told_at)
       order by o.claimed_at desc limit 20)) both_sides
    order by at desc limit 20) m;
  if v_said is null then return; end if;
  insert into waemitter.outbox_messages (recipient, message_type, payload, channel, idempotency_key, correlation_id, category)
    values (format('conversation:%s', conversation_id), 'transcript',
            jsonb_build_object('transcript', jsonb_build_object('messages', v_said)), desk,
            format('transcript:%s:%s:%s', desk, conversation_id, coalesce(extract(epoch from l.told_at), 0)),
            correlation_id, 'service')
    on conflict do nothing;
end $$;

-- The end of a turn: replies, session, buffer, job, lock, in one transaction. `replies`: Cloud API objects, each with its
-- type. `session`: {"active_service": …, "context": {…}}, NULL = as it was; `session_before`: as the turn found it, since a late
-- answer may have changed it meanwhile; `ttl`: of sessions. `takeover`: how long a human has the conversation when `handover`. `discard`: when more was written meanwhile, the replies are dropped and one turn answers
-- both, at most `most_superseded` times. `forwards`: what the customer wrote, for the people of a Chatwoot inbox: of `desk`, or, when a
-- person has the conversation, of the one in which it is, else of `default_desk`; `transcript`: with what was said before. Returns answered, forwarded, silent, human, superseded, or lost: the lock is somebody else's.
create or replace function waemitter.commit_turn(
  turn_id bigint, lock_id uuid, fence bigint, route text, replies jsonb, session jsonb, session_before jsonb, ttl interval,
  handover boolean, takeover interval, discard boolean, most_superseded integer, desk text default null,
  default_desk text default null, forwards jsonb default '[]', transcript boolean default false
) returns text language plpgsql set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_variable
declare
  v_id bigint := waemitter.hold_turn(turn_id, lock_id, fence);
  v waemitter.conversations; b waemitter.message_buffer; c waemitter.contacts; v_later bigint[]; v_outcome text;
  v_session jsonb; v_desk text := desk;
begin
  if v_id is null then return 'lost'; end if;
  perform set_config('waemitter.quiet', 'on', true);
  select * into v from waemitter.conversations x where x.id = v_id;
  select * into c from waemitter.contacts x where x.id = v.contact_id;
  perform from waemitter.message_buffer x
    where x.conversation_id = v_id and x.closes_at is not null order by x.id for no key update;
  select * into b from waemitter.message_buffer x where x.id = turn_id;
  v_outcome := case when v.takeover_until > clock_timestamp() then 'human'
                    when jsonb_array_length(replies) > 0 then 'answered'
                    when desk is not null and jsonb_array_length(forwards) > 0 then 'forwarded' else 'silent' end;
  if discard and v_outcome <> 'human' and b.field is null and b.superseded < most_superseded then
    select array_agg(x.id order by x.id) into v_later from waemitter.message_buffer x
      where x.conversation_id = v_id and x.id > turn_id and x.closes_at is not null and x.field is null;
    if v_later is not null then
      perform waemitter.merge_turns(turn_id, v_later);
      perform waemitter.let_go(v_id, null, 'more was written meanwhile', b.correlation_id);
      perform set_config('waemitter.quiet', '', true);
      notify waemitter_buffer;
      return 'superseded';
    end if;
  end if;
  if v_outcome = 'answered' and coalesce(c.phone, c.user_id) is null then
    raise exception 'there is nobody to reply to: this turn concerns a group or an account'
      using errcode = 'invalid_parameter_value';
  end if;
  if v_desk is null and b.field is null and jsonb_array_length(forwards) > 0 and (handover or v_outcome = 'human') then
    v_desk := coalesce((
      select l.channel from waemitter.chatwoot_conversations l
      where l.conversation_id = v_id and l.status is distinct from 'resolved' order by l.chatwoot_id desc limit 1), default_desk);
  end if;
  if v_desk <> v.channel then
    if transcript and b.field is null and jsonb_array_length(forwards) > 0 then
      perform waemitter.put_transcript(v_id, turn_id, v_desk, b.correlation_id);
    end if;
    insert into waemitter.outbox_messages (recipient, message_type, payload, channel, idempotency_key, correlation_id, category)
      select format('conversation:%s', v_id), f.message ->> 'type', f.message - 'type', v_desk,
             format('turn:%s:desk:%s', turn_id, f.n), b.correlation_id, 'service'
      from jsonb_array_elements(forwards) with ordinality as f (message, n) order by f.n
      on conflict do nothing;
  end if;
  if v_outcome <> 'human' then
    insert into waemitter.outbox_messages (recipient, message_type, payload, channel, idempotency_key, correlation_id, category)
      select coalesce(c.phone, c.user_id), r.reply ->> 'type', r.reply - 'type', v.channel, format('turn:%s:%s', turn_id, r.n),
             b.correlation_id, 'service'
      from jsonb_array_elements(replies) with ordinality as r (reply, n) order by r.n
      on conflict do nothing;
    v_session := waemitter.session_of(v.channel, v.contact_id, ttl, session_before is distinct from waemitter.no_session());
    if session is not null then v_session := waemitter.merge_session(v_session, session_before, session); end if;
    insert into waemitter.user_sessions as s (channel, contact_id, phone_number, active_service, context)
      values (v.channel, v.contact_id, coalesce(c.phone, c.user_id), v_session ->> 'active_service', v_session -> 'context')
      on conflict (channel, contact_id) do update set active_service = excluded.active_service, context = excluded.context,
        phone_number = excluded.phone_number, last_interaction = clock_timestamp(), updated_at = clock_timestamp();
    if handover then
      update waemitter.conversations x set takeover_until = clock_timestamp() + takeover where x.id = v_id;
    end if;
  end if;
  update waemitter.message_buffer x set status = 'completed', closes_at = null, waits = false, processed_at = clock_timestamp(),
      route = commit_turn.route, outcome = v_outcome, resume = null where x.id = turn_id;
  update waemitter.buffer_processing_jobs j set status = 'completed', error_message = null, updated_at = clock_timestamp()
    where j.buffer_id = turn_id;
  if b.dead_letter_id is not null then
    update waemitter.dead_letters d set resolution_status = 'resolved'
      where d.id = b.dead_letter_id and d.resolution_status in ('pending', 'abandoned');
  end if;
  perform waemitter.let_go(v_id, null, case v_outcome when 'human' then 'a human answers' else 'the turn is over' end,
                           b.correlation_id);
  perform set_config('waemitter.quiet', '', true);
  return v_outcome;
end $$;

-- What a handler says later than its turn, or (`human`) a person: he has the conversation for `takeover` then, and agents get to see
-- what he said. `replies` as in commit_turn(); `session`: the keys that change; `ttl`: of sessions. The result is
-- replied, known (by the idempotency key; nothing was done), human (one has the conversation) or missing.
create or replace function waemitter.reply_to_conversation(
  conversation_id bigint, replies jsonb, session jsonb, ttl interval, handover boolean, takeover interval,
  idempotency_key text, correlation_id text, human boolean default false
) returns table (result text, message_ids bigint[]) language plpgsql as $$
#variable_conflict use_variable
declare
  v waemitter.conversations; c waemitter.contacts;
  v_keys text[] := (select coalesce(array_agg(format('reply:%s:%s:%s', conversation_id, idempotency_key, n) order by n), '{}')
                    from generate_series(1, jsonb_array_length(replies)) n where idempotency_key is not null);
begin
  message_ids := '{}';
  select * into v from waemitter.conversations x where x.id = conversation_id for no key update;
  if not found then
    result := 'missing'; return next; return;
  end if;
  select coalesce(array_agg(o.id order by o.id), '{}') into message_ids
    from waemitter.outbox_messages o where o.idempotency_key = any (v_keys);
  if message_ids <> '{}' then
    result := 'known'; return next; return;
  end if;
  if not human and v.takeover_until > clock_timestamp() then
    result := 'human'; return next; return;
  end if;
  select * into c from waemitter.contacts x where x.id = v.contact_id;
  with sent as (
    insert into waemitter.outbox_messages (recipient, message_type, payload, channel, idempotency_key, correlation_id, category)
      select coalesce(c.phone, c.user_id), r.reply ->> 'type', r.reply - 'type', v.channel, v_keys[r.n], correlation_id, 'service'
      from jsonb_array_elements(replies) with ordinality as r (reply, n) order by r.n
      returning id)
  select coalesce(array_agg(s.id order by s.id), '{}') into message_ids from sent s;
  if session is not null then
    session := waemitter.session_of(v.channel, v.contact_id, ttl) || session;
    insert into waemitter.user_sessions as s (channel, contact_id, phone_number, active_service, context)
      values (v.channel, v.contact_id, coalesce(c.phone, c.user_id), session ->> 'active_service', session -> 'context')
      on conflict (channel, contact_id) do update set active_service = excluded.active_service, context = excluded.context,
        last_interaction = clock_timestamp(), updated_at = clock_timestamp();
  end if;
  if human then
    perform waemitter.remember_human_reply(conversation_id => v.id, said => r.reply -> 'text' ->> 'body')
      from jsonb_array_elements(replies) as r (reply) where r.reply -> 'text' ->> 'body' is not null;
  end if;
  if human or handover then
    perform waemitter.take_over_conversation(v.id, takeover, case when human then 'a person answered' else 'handed over by a late answer' end,
                                             extend => true, correlation_id => correlation_id);
  end if;
  result := 'replied';
  return next;
end $$;

-- The messages of later turns become a turn's own, which is due when the last of their windows closes.
create or replace function waemitter.merge_turns(turn_id bigint, later bigint[]) returns void language plpgsql as $$
#variable_conflict use_variable
declare v_count integer;
begin
  update waemitter.buffered_messages m set buffer_id = turn_id where m.buffer_id = any (later);
  get diagnostics v_count = row_count;
  update waemitter.message_buffer b set
      message_count = b.message_count + v_count, superseded = b.superseded + 1, waits = false, closed_at = null,
      flush_reason = null, resume = null,
      closes_at = (select max(case when x.waits then clock_timestamp() else x.closes_at end)
                   from waemitter.message_buffer x where x.id = any (later))
    where b.id = turn_id;
  update waemitter.buffer_processing_jobs j set status = 'scheduled', attempts = 0, updated_at = clock_timestamp()
    where j.buffer_id = turn_id;
  delete from waemitter.message_buffer b where b.id = any (later);
end $$;

-- A turn is tried again after `delay`. Not `counted`: it was not even begun. False: the lock is somebody else's.
create or replace function waemitter.retry_turn(
  turn_id bigint, lock_id uuid, fence bigint, delay interval, error text, counted boolean
) returns boolean language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint := waemitter.hold_turn(turn_id, lock_id, fence); v_correlation text;
begin
  if v_id is null then return false; end if;
  perform set_config('waemitter.quiet', 'on', true);
  update waemitter.message_buffer b set closes_at = clock_timestamp() + delay where b.id = turn_id
    returning b.correlation_id into v_correlation;
  update waemitter.buffer_processing_jobs j set status = 'scheduled', error_message = coalesce(error, j.error_message),
      attempts = j.attempts - case when counted then 0 else 1 end, updated_at = clock_timestamp()
    where j.buffer_id = turn_id;
  perform waemitter.let_go(v_id, null, coalesce(error, 'given back'), v_correlation);
  perform set_config('waemitter.quiet', '', true);
  notify waemitter_buffer;
  return true;
end $$;

-- A turn has failed: it becomes a dead letter, or says why once more in the one that it has. `resume`: its answer, when only
-- the commit failed. Returns the letter's id, NULL when the lock is somebody else's.
create or replace function waemitter.bury_turn(
  turn_id bigint, lock_id uuid, fence bigint, route text, stage text, error text, error_class text, stack text, resume jsonb,
  retry_in interval
) returns bigint language plpgsql as $$
#variable_conflict use_variable
declare v_id bigint := waemitter.hold_turn(turn_id, lock_id, fence); b waemitter.message_buffer; v_letter bigint;
begin
  if v_id is null then return null; end if;
  perform set_config('waemitter.quiet', 'on', true);
  select * into b from waemitter.message_buffer x where x.id = turn_id;
  update waemitter.dead_letters d set error = bury_turn.error, error_class = bury_turn.error_class, stack = bury_turn.stack,
      stage = bury_turn.stage, attempts = d.attempts + 1
    where d.id = b.dead_letter_id and d.resolution_status = 'pending' returning d.id into v_letter;
  if v_letter is null then
    insert into waemitter.dead_letters (direction, source, stage, channel, whatsapp_message_id, contact, payload, error,
        error_class, stack, attempts, next_retry_at, correlation_id)
      select 'inbound', coalesce((select h.kind from waemitter.channels h where h.name = v.channel), 'whatsapp'), stage, v.channel,
        (select m.whatsapp_message_id from waemitter.buffered_messages m where m.buffer_id = turn_id order by m.id desc limit 1),
        coalesce(c.phone, c.user_id),
        jsonb_build_object('turn_id', turn_id, 'conversation_id', v_id, 'route', route,
          'messages', (select jsonb_agg(m.payload order by m.id) from waemitter.buffered_messages m where m.buffer_id = turn_id)),
        error, error_class, stack, j.attempts, clock_timestamp() + retry_in, b.correlation_id
      from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id
      join waemitter.buffer_processing_jobs j on j.buffer_id = turn_id
      where v.id = v_id returning id into v_letter;
  end if;
  update waemitter.message_buffer x set status = 'failed', closes_at = null, processed_at = clock_timestamp(), waits = false,
      route = bury_turn.route, outcome = 'failed', dead_letter_id = v_letter, resume = bury_turn.resume where x.id = turn_id;
  update waemitter.buffer_processing_jobs j set status = 'failed', error_message = error, updated_at = clock_timestamp()
    where j.buffer_id = turn_id;
  perform waemitter.let_go(v_id, 'error', format('the turn failed at %s', stage), b.correlation_id);
  perform set_config('waemitter.quiet', '', true);
  return v_letter;
end $$;

-- A failed turn is due once more, with one try. False: it is none.
create or replace function waemitter.redo_turn(turn_id bigint) returns boolean language plpgsql as $$
#variable_conflict use_variable
begin
  perform set_config('waemitter.quiet', 'on', true);
  perform from waemitter.conversations v
    where v.id = (select b.conversation_id from waemitter.message_buffer b where b.id = turn_id) for no key update;
  update waemitter.message_buffer b set status = 'processing', closes_at = clock_timestamp(), processed_at = null, waits = false
    where b.id = turn_id and b.status = 'failed';
  return found;
end $$;

-- A turn that redo_turn() made due and that could not be claimed at once stays failed.
create or replace function waemitter.leave_turn(turn_id bigint) returns void language plpgsql as $$
#variable_conflict use_variable
begin
  perform set_config('waemitter.quiet', 'on', true);
  perform from waemitter.conversations v
    where v.id = (select b.conversation_id from waemitter.message_buffer b where b.id = turn_id) for no key update;
  update waemitter.message_buffer b set status = 'failed', closes_at = null, processed_at = clock_timestamp(), waits = false
    where b.id = turn_id and b.status = 'processing'
      and not exists (select from waemitter.buffer_processing_jobs j where j.buffer_id = turn_id and j.status = 'processing');
end $$;

-- Delete buffers that ended so long ago, with their messages, at most so many; how many.
create or replace function waemitter.purge_buffers(older_than interval default '30 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.message_buffer
    where processed_at < clock_timestamp() - older_than and closes_at is null order by processed_at limit max_rows
    for update skip locked),
  gone as (delete from waemitter.message_buffer b using old where b.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Conversations and turns, to look at.

create or replace view waemitter.webhook_conversations with (security_invoker = true) as
  select v.id, coalesce(c.wa_id, c.user_id, c.group_id) as user_id, c.phone as phone_number, v.channel, v.contact_id, v.status,
         v.last_inbound_at, v.lock_id, v.locked_at, v.lock_expires_at, v.takeover_until, v.correlation_id, v.created_at,
         v.updated_at
  from waemitter.conversations v join waemitter.contacts c on c.id = v.contact_id;

create or replace view waemitter.webhook_conversation_health with (security_invoker = true) as
  select count(*) as total_count, count(*) filter (where status = 'idle') as idle_count,
         count(*) filter (where status = 'buffering') as buffering_count,
         count(*) filter (where status = 'processing') as processing_count,
         count(*) filter (where status = 'human') as human_count, count(*) filter (where status = 'error') as error_count,
         count(*) filter (where lock_id is not null) as locked_count,
         count(*) filter (where lock_id is not null and lock_expires_at <= now()) as expired_lock_count,
         count(*) filter (where last_inbound_at > now() - interval '24 hours') as active_24h_count,
         min(locked_at) as oldest_lock_at
  from waemitter.conversations;

-- Those that somebody should look at, and why.
create or replace view waemitter.stuck_webhook_conversations with (security_invoker = true) as
  select s.*, case when lock_expires_at <= now() then 'its lock has run out'
                   when locked_at < now() - interval '2 minutes' then 'its lock is not renewed'
                   when status = 'processing' and lock_id is null then 'nobody works on it'
                   else 'its window is overdue' end as reason
  from waemitter.webhook_conversations s
  where (s.lock_id is not null and (s.lock_expires_at <= now() or s.locked_at < now() - interval '2 minutes'))
     or (s.status = 'processing' and s.lock_id is null)
     or s.id in (select b.conversation_id from waemitter.message_buffer b
                 where b.closes_at < now() - interval '2 minutes' and b.closes_at is not null);

-- By the hour in which turns ended: how many, and how long they took, from when they were due.
create or replace view waemitter.webhook_message_processing_metrics with (security_invoker = true) as
  select date_trunc('hour', processed_at) as hour, count(*) as turns, sum(message_count) as messages,
         count(*) filter (where status = 'failed') as failed,
         round(avg(ms)::numeric, 1) as avg_processing_ms,
         round(percentile_cont(0.5) within group (order by ms)::numeric, 1) as p50_processing_ms,
         round(percentile_cont(0.95) within group (order by ms)::numeric, 1) as p95_processing_ms,
         round(percentile_cont(0.99) within group (order by ms)::numeric, 1) as p99_processing_ms
  from (select b.*, 1000 * extract(epoch from b.processed_at - coalesce(b.closed_at, b.processed_at)) as ms
        from waemitter.message_buffer b where b.processed_at is not null) b
  group by 1;

-- What an operator asks first, a line each: `status` is ok or warning.
create or replace function waemitter.check_webhook_system_health()
returns table (check_name text, status text, value numeric, detail text) language sql stable as $$
  select c.name, case when c.value > c.most then 'warning' else 'ok' end, c.value, c.detail
  from (values
    ('stuck_conversations', (select count(*) from waemitter.stuck_webhook_conversations)::numeric, 5,
     'SELECT * FROM stuck_webhook_conversations'),
    ('conversations_in_error', (select count(*) from waemitter.conversations where status = 'error')::numeric, 10,
     'SELECT * FROM webhook_conversations WHERE status = ''error'''),
    ('dead_letters_pending', (select count(*) from waemitter.dead_letters
      where direction = 'inbound' and resolution_status = 'pending')::numeric, 10, 'SELECT * FROM webhook_dlq_summary'),
    ('buffers_overdue', (select count(*) from waemitter.message_buffer
      where closes_at < now() - interval '10 seconds')::numeric, 0, 'windows that should have closed ten seconds ago'),
    ('webhooks_waiting', (select count(*) from waemitter.webhook_logs where available_at < now() - interval '1 minute')::numeric,
     0, 'journalled for more than a minute, and not worked on'),
    ('p95_processing_ms', coalesce((select m.p95_processing_ms from waemitter.webhook_message_processing_metrics m
      order by m.hour desc limit 1), 0), 2000, 'of the last hour with turns'),
    ('processing_switched_off', (not waemitter.flag_enabled('buffer_processing'))::integer::numeric, 0,
     'SELECT toggle_buffer_processing(true) switches it on')
  ) as c (name, value, most, detail)
$$;

-- What was done in the last hours, in one row; milliseconds are those of turns, from when they were due.
create or replace function waemitter.get_webhook_performance_stats(hours integer default 24)
returns table (
  period_hours integer, messages bigint, turns bigint, answered bigint, failed bigint, superseded bigint,
  avg_messages_per_turn numeric, avg_processing_ms numeric, p50_processing_ms numeric, p95_processing_ms numeric,
  p99_processing_ms numeric, dead_letters bigint
) language sql stable as $$
  with ended as (
    select b.*, 1000 * extract(epoch from b.processed_at - coalesce(b.closed_at, b.processed_at)) as ms
    from waemitter.message_buffer b
    where b.processed_at > now() - make_interval(hours => get_webhook_performance_stats.hours))
  select get_webhook_performance_stats.hours, coalesce(sum(e.message_count), 0)::bigint, count(*),
    count(*) filter (where e.outcome = 'answered'), count(*) filter (where e.status = 'failed'),
    coalesce(sum(e.superseded), 0)::bigint, round(avg(e.message_count), 2), round(avg(e.ms)::numeric, 1),
    round(percentile_cont(0.5) within group (order by e.ms)::numeric, 1),
    round(percentile_cont(0.95) within group (order by e.ms)::numeric, 1),
    round(percentile_cont(0.99) within group (order by e.ms)::numeric, 1),
    (select count(*) from waemitter.dead_letters d where d.direction = 'inbound'
       and d.created_at > now() - make_interval(hours => get_webhook_performance_stats.hours))
  from ended e
$$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Agents: budgets and accounts.

-- Add to the usage of a contact and then to that of all: everybody who holds both locks took them in this order.
create or replace function waemitter.count_agent_tokens(agent text, day date, contact_id bigint, tokens bigint) returns void
language sql as $$
  insert into waemitter.agent_usage as u (agent, day, contact_id, tokens)
    select count_agent_tokens.agent, count_agent_tokens.day, count_agent_tokens.contact_id, greatest(count_agent_tokens.tokens, 0)
    where count_agent_tokens.contact_id <> 0
    on conflict (agent, day, contact_id) do update set tokens = greatest(u.tokens + count_agent_tokens.tokens, 0);
  insert into waemitter.agent_usage as u (agent, day, contact_id, tokens)
    values (count_agent_tokens.agent, count_agent_tokens.day, 0, greatest(count_agent_tokens.tokens, 0))
    on conflict (agent, day, contact_id) do update set tokens = greatest(u.tokens + count_agent_tokens.tokens, 0)
$$;

-- The same for many, in the same order: contacts first, then all together. `within`: nobody is beyond a budget by it.
create or replace function waemitter.count_many_tokens(
  agents text[], days date[], contact_ids bigint[], tokens bigint[], per_days bigint[] default '{}', per_contacts bigint[] default '{}'
) returns table (within boolean) language sql as $$
  with given as materialized (
    select * from unnest(agents, days, contact_ids, tokens, per_days, per_contacts)
      as g (agent, day, contact_id, tokens, per_day, per_contact)),
  summed as (
    select g.agent, g.day, c.contact_id, sum(g.tokens)::bigint as tokens, min(c.budget) as budget
    from given g cross join lateral (
      select g.contact_id, g.per_contact where g.contact_id <> 0 union all select 0, g.per_day) as c (contact_id, budget)
    group by g.agent, g.day, c.contact_id),
  counted as (
    insert into waemitter.agent_usage as u (agent, day, contact_id, tokens)
    select s.agent, s.day, s.contact_id, s.tokens from summed s
    where s.tokens > 0 or exists (
      select from waemitter.agent_usage x where x.agent = s.agent and x.day = s.day and x.contact_id = s.contact_id)
    order by s.agent, s.day, nullif(s.contact_id, 0) nulls last
    on conflict (agent, day, contact_id) do update set tokens = greatest(u.tokens + excluded.tokens, 0)
    returning agent, day, contact_id, tokens)
  select coalesce(c.tokens <= s.budget, true) from counted c join summed s using (agent, day, contact_id)
$$;

-- Open a session and reserve `estimate` tokens, so that no number of turns at once exceeds a budget (tokens in a day of UTC; NULL:
-- none). `refusal`: contact or day, whose budget it would exceed. An earlier attempt that never ended gives back what it reserved.
create or replace function waemitter.begin_agent_session(
  agent text, variant text, model text, contact_id bigint, conversation_id bigint, turn_id bigint, attempt integer,
  correlation_id text, estimate bigint, per_day bigint default null, per_contact bigint default null,
  out session_id bigint, out refusal text
) language plpgsql as $$
#variable_conflict use_column
declare v_day date := (clock_timestamp() at time zone 'UTC')::date; r record;
begin
  -- All turns of an agent count on one row: it is not held until the disk has the commit. The turn's own commit, later in the
  -- same log, makes this one durable too.
  perform set_config('synchronous_commit', 'off', true);
  for r in
    with lost as (
      update waemitter.agent_sessions s set outcome = 'lost', ended_at = clock_timestamp()
      where s.turn_id = begin_agent_session.turn_id and s.agent = begin_agent_session.agent and s.outcome = 'running'
      returning (s.started_at at time zone 'UTC')::date as day, s.contact_id, s.reserved)
    select * from lost order by day
  loop
    perform waemitter.count_agent_tokens(agent => begin_agent_session.agent, day => r.day,
      contact_id => coalesce(r.contact_id, 0), tokens => -r.reserved);
  end loop;
  perform waemitter.count_agent_tokens(agent => begin_agent_session.agent, day => v_day,
    contact_id => begin_agent_session.contact_id, tokens => estimate);
  select case when u.contact_id = 0 then 'day' else 'contact' end into refusal
    from waemitter.agent_usage u
    where u.agent = begin_agent_session.agent and u.day = v_day and u.contact_id in (0, begin_agent_session.contact_id)
      and u.tokens > case when u.contact_id = 0 then per_day else per_contact end
    order by u.contact_id desc limit 1;
  if refusal is not null then
    perform waemitter.count_agent_tokens(agent => begin_agent_session.agent, day => v_day,
      contact_id => begin_agent_session.contact_id, tokens => -estimate);
  end if;
  insert into waemitter.agent_sessions (agent, variant, model, contact_id, conversation_id, turn_id, attempt, correlation_id,
      outcome, reserved, error, ended_at)
    values (begin_agent_session.agent, begin_agent_session.variant, begin_agent_session.model, begin_agent_session.contact_id,
      begin_agent_session.conversation_id, begin_agent_session.turn_id, begin_agent_session.attempt,
      begin_agent_session.correlation_id, case when refusal is null then 'running' else 'refused' end,
      case when refusal is null then estimate else 0 end, 'budget: ' || refusal,
      case when refusal is not null then clock_timestamp() end)
    returning id into session_id;
end $$;

-- Open many at once, which costs little more than one: the agent's row is written once for all of them. `nth`: whose.
create or replace function waemitter.begin_agent_sessions(
  agents text[], variants text[], models text[], contact_ids bigint[], conversation_ids bigint[], turn_ids bigint[],
  attempts integer[], correlation_ids text[], estimates bigint[], per_days bigint[], per_contacts bigint[]
) returns table (nth bigint, session_id bigint, refusal text) language plpgsql as $$
#variable_conflict use_column
declare v_day date := (clock_timestamp() at time zone 'UTC')::date; v_within boolean := false;
begin
  perform set_config('synchronous_commit', 'off', true);
  if cardinality(turn_ids) > 1 and cardinality(turn_ids) = (select count(distinct t) from unnest(turn_ids) t) and not exists (
      select from waemitter.agent_sessions s where s.turn_id = any (turn_ids) and s.outcome = 'running') then
    select bool_and(t.within) into v_within from waemitter.count_many_tokens(
      agents, array_fill(v_day, array[cardinality(agents)]), contact_ids, estimates, per_days, per_contacts) t;
    if not v_within then  -- who of them is refused is told one by one
      perform waemitter.count_many_tokens(agents, array_fill(v_day, array[cardinality(agents)]), contact_ids,
        array(select -e from unnest(estimates) with ordinality as u (e, n) order by n), per_days, per_contacts);
    end if;
  end if;
  if v_within then
    return query
      with asked as (
        select * from unnest(agents, variants, models, contact_ids, conversation_ids, turn_ids, attempts, correlation_ids, estimates)
          with ordinality as a (agent, variant, model, contact_id, conversation_id, turn_id, attempt, correlation_id, estimate, n)),
      opened as (
        insert into waemitter.agent_sessions (agent, variant, model, contact_id, conversation_id, turn_id, attempt,
          correlation_id, outcome, reserved)
        select a.agent, a.variant, a.model, a.contact_id, a.conversation_id, a.turn_id, a.attempt, a.correlation_id, 'running',
               a.estimate from asked a order by a.n
        returning id, agent, turn_id)
      select a.n, o.id, null::text from asked a join opened o on o.turn_id = a.turn_id and o.agent = a.agent;
  else
    return query
      select a.n, s.session_id, s.refusal
      from unnest(agents, variants, models, contact_ids, conversation_ids, turn_ids, attempts, correlation_ids, estimates,
                  per_days, per_contacts)
        with ordinality as a (agent, variant, model, contact_id, conversation_id, turn_id, attempt, correlation_id, estimate,
                              per_day, per_contact, n)
      cross join lateral waemitter.begin_agent_session(a.agent, a.variant, a.model, a.contact_id, a.conversation_id, a.turn_id,
        a.attempt, a.correlation_id, a.estimate, a.per_day, a.per_contact) s;
  end if;
end $$;

-- Close sessions: what was used replaces what was reserved. Returns those that were still open: no later attempt of their turn had begun.
create or replace function waemitter.end_agent_sessions(
  session_ids bigint[], outcomes text[], call_counts integer[], tool_call_counts integer[], inputs bigint[], outputs bigint[],
  costs numeric[], durations interval[], reviews text[], handovers boolean[], errors text[]
) returns setof bigint language plpgsql as $$
#variable_conflict use_column
declare v_ids bigint[]; v_agents text[]; v_days date[]; v_contacts bigint[]; v_tokens bigint[];
begin
  perform set_config('synchronous_commit', 'off', true);  -- as in begin_agent_session
  perform from waemitter.agent_sessions s where s.id = any (session_ids) and s.outcome = 'running' order by s.id for no key update;
  with ended as (
    update waemitter.agent_sessions s set
      outcome = e.outcome, calls = e.calls, tool_calls = e.tool_calls, input_tokens = e.input_tokens, output_tokens = e.output_tokens,
      cost = e.cost, review = e.review, handover = e.handover, error = e.error, ended_at = clock_timestamp(),
      latency_ms = extract(epoch from e.took) * 1000
    from unnest(session_ids, outcomes, call_counts, tool_call_counts, inputs, outputs, costs, durations, reviews, handovers, errors)
      as e (id, outcome, calls, tool_calls, input_tokens, output_tokens, cost, took, review, handover, error)
    where s.id = e.id and s.outcome = 'running'
    returning s.id, s.agent, (s.started_at at time zone 'UTC')::date as day, coalesce(s.contact_id, 0) as contact_id,
      s.input_tokens + s.output_tokens - s.reserved as tokens)
  select array_agg(id), array_agg(agent), array_agg(day), array_agg(contact_id), array_agg(tokens)
    into v_ids, v_agents, v_days, v_contacts, v_tokens from ended;
  perform waemitter.count_many_tokens(v_agents, v_days, v_contacts, v_tokens);
  return query select unnest(v_ids);
end $$;

-- A person answered: every agent gets to see that, with what the customer wrote since the last exchange that is remembered.
create or replace function waemitter.remember_human_reply(conversation_id bigint, said text) returns bigint language sql as $$
  insert into waemitter.agent_contexts (contact_id, kind, heard, said)
  select v.contact_id, 'human', (
      select string_agg(m.payload -> 'text' ->> 'body', e'\n' order by m.id) from (
        select i.id, i.payload from waemitter.inbound_messages i
        where i.conversation_id = v.id and not i.from_us and i.created_at > coalesce(
          (select max(c.created_at) from waemitter.agent_contexts c where c.contact_id = v.contact_id), '-infinity')
        order by i.id desc limit 20) m), remember_human_reply.said
  from waemitter.conversations v where v.id = remember_human_reply.conversation_id
  returning id
$$;

-- For data protection: what agents remember of a contact is deleted, and their accounts no longer name it.
create or replace function waemitter.forget_agent_contexts(contact_id bigint) returns integer language sql as $$
  update waemitter.agent_sessions s set contact_id = null where s.contact_id = forget_agent_contexts.contact_id;
  delete from waemitter.agent_usage u where u.contact_id = forget_agent_contexts.contact_id and u.contact_id <> 0;
  with gone as (
    delete from waemitter.agent_contexts c where c.contact_id = forget_agent_contexts.contact_id returning 1)
  select count(*)::integer from gone
$$;

-- Delete accounts that ended so long ago, at most so many; and usage of days before that.
create or replace function waemitter.purge_agent_sessions(older_than interval default '90 days', max_rows integer default 10000)
returns integer language sql as $$
  delete from waemitter.agent_usage where day < (clock_timestamp() - greatest(older_than, interval '2 days'))::date;
  with old as (
    select id from waemitter.agent_sessions where ended_at < clock_timestamp() - older_than order by id limit max_rows
    for update skip locked),
  gone as (delete from waemitter.agent_sessions s using old where s.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- Delete what agents remember from so long ago, at most so many. A summary stays as long as its contact has anything younger.
create or replace function waemitter.purge_agent_contexts(older_than interval default '90 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select c.id from waemitter.agent_contexts c
    where c.created_at < clock_timestamp() - older_than
      and (c.kind <> 'summary' or not exists (
        select from waemitter.agent_contexts y
        where y.contact_id = c.contact_id and y.id > c.id and y.created_at >= clock_timestamp() - older_than))
    order by c.created_at limit max_rows for update skip locked),
  gone as (delete from waemitter.agent_contexts c using old where c.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- How the variants of an agent did. `replied`: answered turns after which the customer wrote again within 24 hours; rates are
-- shares of the answered turns, failure_rate of all.
create or replace function waemitter.compare_agent_variants(agent text, since interval default '7 days')
returns table (variant text, sessions bigint, turns bigint, replied bigint, reply_rate numeric, handover_rate numeric,
  failure_rate numeric, avg_latency_ms numeric, p95_latency_ms numeric, input_tokens numeric, output_tokens numeric,
  cost numeric, cost_per_turn numeric)
language sql stable as $$
  with s as (
    select s.*, s.outcome = 'answered' and exists (
        select from waemitter.inbound_messages i where i.conversation_id = s.conversation_id
          and i.created_at > s.ended_at and i.created_at <= s.ended_at + interval '24 hours') as again
    from waemitter.agent_sessions s
    where s.agent = compare_agent_variants.agent and s.started_at > clock_timestamp() - since)
  select s.variant, count(distinct (s.contact_id, (s.started_at at time zone 'UTC')::date)), count(*),
    count(*) filter (where again),
    round(count(*) filter (where again)::numeric / nullif(count(*) filter (where outcome = 'answered'), 0), 4),
    round(count(*) filter (where handover)::numeric / nullif(count(*) filter (where outcome in ('answered', 'fallback')), 0), 4),
    round(count(*) filter (where outcome in ('fallback', 'failed', 'lost'))::numeric / count(*), 4),
    round(avg(latency_ms)), round(percentile_cont(0.95) within group (order by latency_ms)::numeric),
    sum(s.input_tokens), sum(s.output_tokens), sum(s.cost), round(sum(s.cost) / count(*), 6)
  from s group by s.variant order by s.variant
$$;

-- Per agent and variant, over all that retention has left. `sessions`: contacts by days of UTC.
create or replace view waemitter.webhook_agent_performance with (security_invoker = true) as
  select agent, variant, count(distinct (contact_id, (started_at at time zone 'UTC')::date)) as sessions, count(*) as turns,
         sum(calls) as calls, sum(tool_calls) as tool_calls, count(*) filter (where outcome = 'answered') as answered,
         count(*) filter (where outcome = 'fallback') as fallbacks, count(*) filter (where outcome = 'refused') as refused,
         count(*) filter (where outcome in ('fallback', 'failed', 'lost')) as errors,
         count(*) filter (where handover) as handovers, round(avg(latency_ms)) as avg_latency_ms,
         round(percentile_cont(0.95) within group (order by latency_ms)::numeric) as p95_latency_ms,
         sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens, sum(cost) as cost,
         max(started_at) as last_used_at
  from waemitter.agent_sessions group by agent, variant;

-- ---------------------------------------------------------------------------------------------------------------------
-- Jobs. Locks: the job, then its runs.

-- Have a job run now, be it enabled or not; returns the run's id, of the one that waits already if there is one.
create or replace function waemitter.run_job(name text) returns bigint language plpgsql as $$
declare v_id bigint;
begin
  perform from waemitter.jobs j where j.name = run_job.name for no key update;
  if not found then
    raise exception 'there is no job %', run_job.name using errcode = 'no_data_found',
      hint = 'SELECT name FROM waemitter.jobs; the daemon adds them when it starts';
  end if;
  insert into waemitter.job_runs (job_name) values (run_job.name)
  on conflict (job_name) where status = 'starting' do nothing returning id into v_id;
  if v_id is null then
    select r.id into v_id from waemitter.job_runs r where r.job_name = run_job.name and r.status = 'starting';
  end if;
  return v_id;
end $$;

-- Begin one run that is due: by its schedule, by request, or (of dlq-processor) because a letter is. Returns one row; without
-- run_id when nothing could be begun. `next_due` is in seconds from now, NULL when nothing waits. A run whose daemon vanished
-- has failed, and its job is still due; what was requested starts once more.
create or replace function waemitter.claim_job(names text[], lease interval)
returns table (run_id bigint, name text, schedule text, time_zone text, reason text, due_at timestamptz, clock timestamptz,
               next_due double precision, unscheduled boolean)
language plpgsql as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v_job waemitter.jobs; v_letters timestamptz; v_requested bigint; v_run bigint;
        v_why text; v_due timestamptz; v_again boolean;
begin
  perform set_config('waemitter.quiet', 'on', true);
  select min(d.next_retry_at) into v_letters from waemitter.dead_letters d
    where d.resolution_status = 'pending' and d.direction = 'inbound';
  select j.* into v_job from waemitter.jobs j
    where j.name = any (names) and coalesce(j.running_until, '-infinity') <= v_now
      and (j.enabled and (j.next_run_at <= v_now or j.name = 'dlq-processor' and v_letters <= v_now)
           or exists (select from waemitter.job_runs r where r.job_name = j.name and r.status = 'starting')
           or j.run_id is not null)
    order by j.next_run_at, j.id limit 1 for no key update skip locked;
  if found then
    v_again := exists (select from waemitter.job_runs r
                       where r.id = v_job.run_id and r.status = 'running' and r.reason = 'request')
               and not exists (select from waemitter.job_runs r where r.job_name = v_job.name and r.status = 'starting');
    update waemitter.job_runs r
      set status = case when v_again then 'starting' else 'failed' end,
          finished_at = case when not v_again then v_now end, error = 'its daemon vanished'
      where r.id = v_job.run_id and r.status = 'running';
    v_why := case when v_job.enabled and v_job.next_run_at <= v_now then 'schedule'
                  when v_job.enabled and v_job.name = 'dlq-processor' and v_letters <= v_now then 'due' end;
    update waemitter.job_runs r set status = 'running', started_at = v_now, finished_at = null, error = null
      where r.job_name = v_job.name and r.status = 'starting' returning r.id into v_requested;
    if v_requested is not null then
      v_run := v_requested;
      v_why := 'request';
    elsif v_why is not null then
      insert into waemitter.job_runs (job_name, reason, status, started_at) values (v_job.name, v_why, 'running', v_now)
      returning id into v_run;
    end if;
    update waemitter.jobs j set run_id = v_run, running_until = case when v_run is not null then v_now + lease end
      where j.id = v_job.id;
  end if;
  select min(case when r.id is not null then v_now
                  when not j.enabled then null
                  when j.name = 'dlq-processor' then least(j.next_run_at, v_letters) else j.next_run_at end) into v_due
    from waemitter.jobs j left join waemitter.job_runs r on r.job_name = j.name and r.status = 'starting'
    where j.name = any (names) and coalesce(j.running_until, '-infinity') <= v_now;
  select least(v_due, min(j.running_until)) into v_due from waemitter.jobs j
    where j.name = any (names) and j.running_until > v_now;
  return query select v_run, v_job.name, v_job.schedule, v_job.time_zone, v_why, v_job.next_run_at, v_now,
                      greatest(extract(epoch from v_due - v_now), 0)::float8,
                      exists (select from waemitter.jobs j
                              where j.name = any (names) and j.next_run_at is null and j.problem is null);
end $$;

-- The run goes on: nobody else begins one. False: its lease was over, and somebody did.
create or replace function waemitter.renew_job(run_id bigint, lease interval) returns boolean language plpgsql as $$
#variable_conflict use_column
begin
  update waemitter.jobs j set running_until = clock_timestamp() + lease where j.run_id = renew_job.run_id;
  return found;
end $$;

-- The run is over. Its job is due again at `next_run_at` (NULL leaves it), unless its schedule was changed meanwhile, or the
-- time itself: it was due at `due_at` when the run began. False: the run is somebody else's now.
create or replace function waemitter.finish_job(
  run_id bigint, schedule text, time_zone text, due_at timestamptz, next_run_at timestamptz, summary jsonb, error text)
returns boolean
language plpgsql as $$
#variable_conflict use_column
begin
  perform set_config('waemitter.quiet', 'on', true);
  update waemitter.jobs j
    set run_id = null, running_until = null,
        next_run_at = case when j.schedule = finish_job.schedule and j.time_zone = finish_job.time_zone
                             and j.next_run_at is not distinct from due_at
                           then coalesce(finish_job.next_run_at, j.next_run_at) else j.next_run_at end
    where j.run_id = finish_job.run_id;
  if not found then return false; end if;
  update waemitter.job_runs r
    set status = case when finish_job.error is null then 'succeeded' else 'failed' end, finished_at = clock_timestamp(),
        summary = finish_job.summary, error = finish_job.error
    where r.id = finish_job.run_id;
  return true;
end $$;

-- Each job with its last run.
create or replace function waemitter.get_cron_job_status()
returns table (jobid bigint, jobname text, schedule text, active boolean, next_run_at timestamptz, last_run_at timestamptz,
               last_status text, last_duration interval, last_error text)
language sql stable as $$
  select j.id, j.name, j.schedule, j.enabled, j.next_run_at, r.started_at, r.status, r.duration, r.error
  from waemitter.jobs j
  left join lateral (select * from waemitter.job_runs r where r.job_name = j.name order by r.id desc limit 1) r on true
  order by j.name
$$;

-- Begin the retries of due letters, at most so many, the oldest first. Each counts now, and the next one has its date: a letter
-- that takes its daemon down with it is not tried for ever. `spent`: it had its retries, and is abandoned.
create or replace function waemitter.claim_letters(max_rows integer, max_retries integer, delays double precision[])
returns table (id bigint, source text, stage text, channel text, whatsapp_message_id text, payload text, retry_count integer,
               correlation_id text, spent boolean)
language plpgsql as $$
#variable_conflict use_column
begin
  return query
  with due as materialized (
    select d.id from waemitter.dead_letters d
    where d.direction = 'inbound' and d.resolution_status = 'pending' and d.next_retry_at <= clock_timestamp()
    order by d.next_retry_at, d.id limit max_rows for no key update skip locked)
  update waemitter.dead_letters d
    set retry_count = least(d.retry_count + 1, greatest(max_retries, d.retry_count)),
        resolution_status = case when d.retry_count >= max_retries then 'abandoned' else d.resolution_status end,
        next_retry_at = clock_timestamp() + make_interval(secs => delays[least(d.retry_count + 2, cardinality(delays))])
    from due where d.id = due.id
    returning d.id, d.source, d.stage, d.channel, d.whatsapp_message_id, d.payload::text, d.retry_count, d.correlation_id,
              d.resolution_status = 'abandoned';
end $$;

-- What became of a retry; true unless somebody else has decided on the letter meanwhile.
create or replace function waemitter.settle_letter(id bigint, error text, max_retries integer) returns boolean
language plpgsql as $$
#variable_conflict use_column
begin
  update waemitter.dead_letters d
    set resolution_status = case when settle_letter.error is null then 'resolved'
                                 when d.retry_count >= max_retries then 'abandoned' else 'pending' end,
        error = coalesce(settle_letter.error, d.error)
    where d.id = settle_letter.id and d.resolution_status = 'pending';
  return found;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Retention: a batch in each call, oldest first; nothing that is locked is waited for.

create or replace function waemitter.purge_job_runs(older_than interval default '7 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.job_runs where created_at < clock_timestamp() - older_than and status in ('succeeded', 'failed')
    order by created_at limit max_rows for update skip locked),
  gone as (delete from waemitter.job_runs r using old where r.id = old.id returning 1)
  select count(*)::integer from gone
$$;

create or replace function waemitter.purge_alerts(older_than interval default '7 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.alerts where ended_at < clock_timestamp() - older_than order by ended_at limit max_rows
    for update skip locked),
  gone as (delete from waemitter.alerts a using old where a.id = old.id returning 1)
  select count(*)::integer from gone
$$;

create or replace function waemitter.purge_audit_log(older_than interval default '365 days', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.audit_log where at < clock_timestamp() - older_than order by at limit max_rows
    for update skip locked),
  gone as (delete from waemitter.audit_log a using old where a.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- Messages of customers, and what conversations went through. Ids rise with time, so the oldest are looked at alone.
create or replace function waemitter.purge_inbound_messages(older_than interval default '90 days', max_rows integer default 1000)
returns integer language sql as $$
  with oldest as materialized (select id, created_at from waemitter.inbound_messages order by id limit max_rows),
  gone as (delete from waemitter.inbound_messages m using oldest o
           where m.id = o.id and o.created_at < clock_timestamp() - older_than returning 1)
  select count(*)::integer from gone
$$;

create or replace function waemitter.purge_state_transitions(older_than interval default '90 days', max_rows integer default 1000)
returns integer language sql as $$
  with oldest as materialized (select id, at from waemitter.conversation_state_transitions order by id limit max_rows),
  gone as (delete from waemitter.conversation_state_transitions t using oldest o
           where t.id = o.id and o.at < clock_timestamp() - older_than returning 1)
  select count(*)::integer from gone
$$;

-- Sessions whose contact wrote last so long ago.
create or replace function waemitter.purge_sessions(older_than interval default '24 hours', max_rows integer default 1000)
returns integer language sql as $$
  with old as materialized (
    select id from waemitter.user_sessions where last_interaction < clock_timestamp() - older_than
    order by last_interaction limit max_rows for update skip locked),
  gone as (delete from waemitter.user_sessions s using old where s.id = old.id returning 1)
  select count(*)::integer from gone
$$;

-- Messages that reached their end so long ago, with what belongs to them. Looks at the next max_rows rows behind the id `after`;
-- `behind` is where to go on, NULL when the rest is too young.
create or replace function waemitter.purge_outbox(
  older_than interval default '90 days', max_rows integer default 1000, after bigint default 0,
  out deleted integer, out behind bigint)
language plpgsql as $$
#variable_conflict use_column
declare v_before timestamptz := clock_timestamp() - older_than; v_ids bigint[]; v_seen integer; v_old integer;
begin
  select count(*), count(*) filter (where s.created_at < v_before), max(s.id),
         array_agg(s.id) filter (where s.available_at is null and s.ended_at < v_before)
    into v_seen, v_old, behind, v_ids
    from (select o.id, o.created_at, o.available_at,
                 greatest(o.created_at, o.sent_at, o.delivered_at, o.read_at, o.failed_at) as ended_at
          from waemitter.outbox_messages o where o.id > after order by o.id limit max_rows) s;
  if v_seen < max_rows or v_old = 0 then behind := null; end if;
  with gone as (
    delete from waemitter.outbox_messages o
    using (select o.id from waemitter.outbox_messages o where o.id = any (v_ids) and o.available_at is null
           order by o.id for update skip locked) old
    where o.id = old.id returning o.id)
  select coalesce(array_agg(g.id), '{}') into v_ids from gone g;
  deleted := cardinality(v_ids);
  delete from waemitter.outbox_transitions t where t.message_id = any (v_ids);
  delete from waemitter.outbox_attempts a where a.message_id = any (v_ids);
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Events out: what happened here, told to systems elsewhere, as CloudEvents.
--
-- A subscription is a name, the types that it wants, and where a daemon delivers them. A change that subscriptions want
-- writes a row for each of them, in the transaction of the change; without a subscription the triggers below look into an
-- empty table, and that is all. Rows of one subject (a message, a turn …) are delivered one at a time, in the order of their ids.
-- available_at is the queue's one column here too: when due; while one is being delivered, the end of the lease; 'infinity'
-- waits for an earlier one of its subject; NULL has left the queue.

create table if not exists waemitter.event_subscriptions (
  name            text primary key check (name ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  kind            text not null check (kind in ('webhook', 'nats', 'kafka', 'tracing')),
  target          text not null,                -- to be read: it holds no secret
  types           text[] not null check (cardinality(types) > 0),
  failures        integer not null default 0,   -- of the target in a row, and until when it is left alone
  retry_at        timestamptz,
  failing_since   timestamptz,                  -- the first failure after the last success
  last_error      text,
  disabled_at     timestamptz,
  disabled_reason text check (disabled_reason in ('operator', 'failing', 'gone')),
  created_at      timestamptz not null default clock_timestamp(),
  check ((disabled_at is null) = (disabled_reason is null))
);

create table if not exists waemitter.event_outbox (
  id           bigint generated always as identity primary key,
  subscription text not null,
  event_id     uuid not null,  -- the same for every subscription and every attempt
  type         text not null,
  subject      text not null,
  channel      text,
  at           timestamptz not null default clock_timestamp(),
  data         jsonb not null,
  traceparent  text,
  available_at timestamptz default clock_timestamp(),
  attempts     integer not null default 0,
  delivered_at timestamptz,
  failed_at    timestamptz,    -- given up
  error        text,
  check (available_at is null or (delivered_at is null and failed_at is null))
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index if not exists event_outbox_due on waemitter.event_outbox (subscription, available_at, id)
  where available_at is not null;
create index if not exists event_outbox_subjects on waemitter.event_outbox (subscription, subject, id)
  where available_at is not null;

-- The types that are wanted now; NULL: none.
create or replace function waemitter.wanted_events() returns text[] language sql stable as $$
  select array_agg(t) from waemitter.event_subscriptions s cross join unnest(s.types) t where s.disabled_at is null
$$;

create or replace function waemitter.tell_event(
  type text, subject text, channel text, data jsonb, traceparent text default null
) returns void language plpgsql as $$
#variable_conflict use_variable
declare v_id uuid := gen_random_uuid();
begin
  insert into waemitter.event_outbox (subscription, event_id, type, subject, channel, data, traceparent)
    select s.name, v_id, type, subject, channel, data, traceparent
    from waemitter.event_subscriptions s where s.disabled_at is null and type = any (s.types) order by s.name;
  if found then notify waemitter_events; end if;
end $$;

create or replace function waemitter.contact_facts(contact_id bigint) returns jsonb language sql stable as $$
  select jsonb_build_object('id', c.id, 'wa_id', c.wa_id, 'user_id', c.user_id, 'phone', c.phone, 'name', c.name)
  from waemitter.contacts c where c.id = contact_id
$$;

-- The attempts before the one that was claimed then, the newest 20, as part of an event; '{}' when there was none.
create or replace function waemitter.earlier_attempts(message_id bigint, claimed_at timestamptz) returns jsonb
language sql stable as $$
  select coalesce((
    select jsonb_build_object('earlier_attempts', jsonb_agg(jsonb_build_object(
             'claimed_at', t.detail -> 'claimed_at', 'ended_at', t.at, 'error_code', t.detail -> 'code') order by t.id))
    from (select x.id, x.at, x.detail from waemitter.outbox_transitions x
          where x.message_id = earlier_attempts.message_id and x.from_status = 'sending' and x.detail ? 'claimed_at'
            and (x.detail ->> 'claimed_at')::timestamptz is distinct from earlier_attempts.claimed_at
          order by x.id desc limit 20) t
    having count(*) > 0), '{}')
$$;

-- What messages came to: a word for each id.
create or replace function waemitter.tell_messages(ids bigint[], words text[]) returns void language plpgsql
  set plan_cache_mode = force_generic_plan as $$
begin
  with told as materialized (
    select gen_random_uuid() as event_id, 'message.' || g.word as type, 'messages/' || o.id as subject, o.channel,
      o.traceparent, g.n, jsonb_build_object(
        'id', o.id, 'channel', o.channel, 'status', g.word, 'recipient', o.recipient, 'message_type', o.message_type,
        'whatsapp_message_id', o.whatsapp_message_id, 'campaign_id', o.campaign_id, 'correlation_id', o.correlation_id,
        'idempotency_key', o.idempotency_key, 'attempts', o.attempts, 'dry_run', o.dry_run,
        'error_code', o.error_code, 'error_message', o.error_message, 'created_at', o.created_at, 'claimed_at', o.claimed_at,
        'sent_at', o.sent_at, 'delivered_at', o.delivered_at, 'read_at', o.read_at, 'failed_at', o.failed_at,
        'pricing_category', o.pricing_category, 'billable', o.billable)
      || case when g.word in ('delivered', 'read') then '{}' else waemitter.earlier_attempts(o.id, o.claimed_at) end as data
    from unnest(ids, words) with ordinality as g (id, word, n) join waemitter.outbox_messages o on o.id = g.id)
  insert into waemitter.event_outbox (subscription, event_id, type, subject, channel, data, traceparent)
    select s.name, t.event_id, t.type, t.subject, t.channel, t.data, t.traceparent
    from told t join waemitter.event_subscriptions s on s.disabled_at is null and t.type = any (s.types) order by t.n, s.name;
  if found then notify waemitter_events; end if;
end $$;

-- Counts them, too (outbox_counts): here it is known how they were before. What the triggers call has its owner's rights:
-- whoever may change a message shall not need a right to events.
create or replace function waemitter.messages_changed() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp set enable_hashjoin = on as $$
declare v_wanted text[] := waemitter.wanted_events(); v_ids bigint[]; v_words text[];
begin
  insert into waemitter.outbox_counts (campaign_id, sent, delivered, read, failed)
    select c.* from (
      select s.campaign_id, sum(s.n * (s.status in ('sent', 'delivered', 'read'))::integer) as sent,
        sum(s.n * (s.status in ('delivered', 'read'))::integer) as delivered, sum(s.n * (s.status = 'read')::integer) as read,
        sum(s.n * (s.status in ('failed', 'cancelled', 'expired', 'suppressed'))::integer) as failed
      from (select campaign_id, status, 1 as n from after union all select campaign_id, status, -1 from before) s
      where s.status not in ('queued', 'sending', 'unconfirmed') group by 1) c
    where (c.sent, c.delivered, c.read, c.failed) <> (0, 0, 0, 0);
  if v_wanted is null then return null; end if;
  select array_agg(a.id order by a.id, w.n), array_agg(w.word order by a.id, w.n) into v_ids, v_words
  from after a join before b on b.id = a.id cross join lateral (values  -- several at once: statuses come in batches
    (1, 'sent', b.sent_at is null and a.sent_at is not null),
    (2, 'delivered', b.delivered_at is null and a.delivered_at is not null),
    (3, 'read', b.read_at is null and a.read_at is not null),
    (4, a.status, a.status <> b.status and a.status in ('failed', 'unconfirmed', 'expired', 'cancelled', 'suppressed'))
  ) w (n, word, news)
  where w.news and 'message.' || w.word = any (v_wanted);
  if v_ids is not null then perform waemitter.tell_messages(v_ids, v_words); end if;
  return null;
end $$;

-- A message that was ended as it was enqueued.
create or replace function waemitter.messages_refused() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform waemitter.tell_messages(array[new.id], array[new.status]);
  return null;
end $$;

-- A failure that Meta told of, and that is taken back in the same transaction since the message is sent again, was none.
create or replace function waemitter.untell_failures(ids bigint[]) returns void language plpgsql as $$
begin
  if not exists (select from waemitter.event_subscriptions) then return; end if;
  delete from waemitter.event_outbox e using (
    select max(x.id) as id from waemitter.event_subscriptions s cross join unnest(ids) as m (id)
    join waemitter.event_outbox x on x.subscription = s.name and x.subject = 'messages/' || m.id
      and x.available_at is not null and x.attempts = 0 and x.type = 'message.failed'
    group by s.name, m.id) last
  where e.id = last.id;
end $$;

create or replace function waemitter.messages_received() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
  if not coalesce('message.received' = any (waemitter.wanted_events()), false) then return null; end if;
  perform waemitter.tell_event('message.received', 'conversations/' || i.conversation_id, v.channel, jsonb_build_object(
      'id', i.id, 'channel', v.channel, 'conversation_id', i.conversation_id, 'contact', waemitter.contact_facts(v.contact_id),
      'whatsapp_message_id', i.whatsapp_message_id, 'message_type', i.message_type, 'sent_at', i.sent_at,
      'created_at', i.created_at, 'message', i.payload))
    from (select * from inserted order by id) i join waemitter.conversations v on v.id = i.conversation_id
    where not i.from_us;
  return null;
end $$;

create or replace function waemitter.turn_ended() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  if not coalesce('turn.' || new.status = any (waemitter.wanted_events()), false) then return null; end if;
  perform waemitter.tell_event('turn.' || new.status, 'conversations/' || new.conversation_id, v.channel, jsonb_build_object(
      'turn_id', new.id, 'channel', v.channel, 'conversation_id', new.conversation_id,
      'contact', waemitter.contact_facts(v.contact_id), 'route', new.route, 'outcome', new.outcome,
      'message_count', new.message_count, 'correlation_id', new.correlation_id, 'dead_letter_id', new.dead_letter_id,
      'created_at', new.created_at, 'processed_at', new.processed_at))
    from waemitter.conversations v where v.id = new.conversation_id;
  return null;
end $$;

create or replace function waemitter.channel_told() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform waemitter.tell_event(case when new.paused_until is null then 'channel.resumed' else 'channel.paused' end,
    'channels/' || new.name, new.name, jsonb_build_object(
      'channel', new.name, 'reason', new.pause_reason, 'paused_until', nullif(new.paused_until, 'infinity'),
      'quality', new.quality, 'tier', new.tier));
  return null;
end $$;

create or replace function waemitter.campaign_told() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform waemitter.tell_event('campaign.' || case new.status when 'running' then 'started' else new.status end,
    'campaigns/' || new.id, null, jsonb_build_object(
      'id', new.id, 'name', new.name, 'status', new.status, 'total', new.total, 'sent', new.sent, 'delivered', new.delivered,
      'read', new.read, 'failed', new.failed));
  return null;
end $$;

create or replace function waemitter.opt_out_told() returns trigger language plpgsql
  security definer set search_path = pg_catalog, pg_temp as $$
declare v waemitter.suppressions;
begin
  if tg_op = 'DELETE' then v := old; else v := new; end if;
  perform waemitter.tell_event(case tg_op when 'DELETE' then 'contact.opted_in' else 'contact.opted_out' end,
    'contacts/' || v.address, v.channel, jsonb_build_object(
      'address', v.address, 'scope', v.scope, 'channel', v.channel, 'reason', v.reason, 'source', v.source));
  return null;
end $$;

-- A subscription as a daemon's settings have it; true when that is news. Another target is not blamed for what the one before it did.
create or replace function waemitter.subscribe_events(name text, kind text, target text, types text[]) returns boolean
language sql as $$
  with put as (
    insert into waemitter.event_subscriptions as s (name, kind, target, types) values (name, kind, target, types)
    on conflict (name) do update set kind = excluded.kind, target = excluded.target, types = excluded.types,
        disabled_at = case when s.target = excluded.target or s.disabled_reason = 'operator' then s.disabled_at end,
        disabled_reason = case when s.target = excluded.target or s.disabled_reason = 'operator' then s.disabled_reason end
      where (s.kind, s.target, s.types) is distinct from (excluded.kind, excluded.target, excluded.types)
    returning 1)
  select exists (select from put)
$$;

-- Stop telling a subscription, or go on with what still waits. True when it took effect.
create or replace function waemitter.enable_events(name text, enabled boolean) returns boolean language plpgsql as $$
#variable_conflict use_column
begin
  update waemitter.event_subscriptions s
    set disabled_at = case when not enabled then clock_timestamp() end,
        disabled_reason = case when not enabled then 'operator' end, failures = 0, retry_at = null, failing_since = null
    where s.name = enable_events.name and (s.disabled_at is null) <> enabled;
  if found and enabled then notify waemitter_events; end if;
  return found;
end $$;

-- Forget a subscription that no daemon's settings have any more, and what still waits for it.
create or replace function waemitter.unsubscribe_events(name text) returns boolean language plpgsql as $$
#variable_conflict use_column
declare v_gone boolean;
begin
  delete from waemitter.event_subscriptions s where s.name = unsubscribe_events.name;
  v_gone := found;
  delete from waemitter.event_outbox e where e.subscription = unsubscribe_events.name;
  return v_gone;
end $$;

-- Deliver once more what happened since then, in its order; how many events.
create or replace function waemitter.redeliver_events(subscription text, since timestamptz) returns integer language plpgsql as $$
#variable_conflict use_column
declare v_n integer;
begin
  update waemitter.event_outbox e
    set available_at = clock_timestamp(), attempts = 0, delivered_at = null, failed_at = null, error = null
    where e.subscription = redeliver_events.subscription and e.at >= since and e.available_at is null;
  get diagnostics v_n = row_count;
  if v_n > 0 then notify waemitter_events; end if;
  return v_n;
end $$;

-- Lease what is due of one subscription. Always returns at least one row; one without event_id when nothing was claimed.
-- `next_due`: seconds until there is something to do; NULL = nothing waits. A target that failed gets one event at a time.
create or replace function waemitter.claim_events(subscription text, max_rows integer, lease interval)
returns table (id bigint, event_id uuid, type text, subject text, channel text, at timestamptz, data text, traceparent text,
               attempt integer, next_due double precision) language plpgsql
  set plan_cache_mode = force_generic_plan set enable_seqscan = off
as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v waemitter.event_subscriptions; v_take bigint[];
begin
  select * into v from waemitter.event_subscriptions s where s.name = claim_events.subscription;
  if not found or v.disabled_at is not null then
    return next; return;
  end if;
  if v.retry_at > v_now then
    next_due := extract(epoch from v.retry_at - v_now); return next; return;
  end if;
  with due as materialized (
    select e.id, e.subject, exists (
        select from waemitter.event_outbox b where b.subscription = claim_events.subscription and b.subject = e.subject
          and b.available_at is not null and b.id < e.id) as waits
    from waemitter.event_outbox e
    where e.subscription = claim_events.subscription and e.available_at <= v_now
    order by e.available_at, e.id limit max_rows),
  take as materialized (
    select e.id from due d join waemitter.event_outbox e on e.id = d.id
    where not d.waits and e.available_at <= v_now
    order by e.available_at, e.id limit case when v.failures > 0 then 1 else max_rows end
    for no key update of e skip locked),
  -- parked only while the one it waits for is locked by us: whoever ends that one will see it parked
  parked as (
    update waemitter.event_outbox e set available_at = 'infinity'
    from (select d.id from due d cross join lateral (
            select b.id from waemitter.event_outbox b
            where b.subscription = claim_events.subscription and b.subject = d.subject and b.available_at is not null and b.id < d.id
            order by b.id limit 1 for no key update skip locked) b
          where d.waits) w
    where e.id = w.id and e.available_at <= v_now)
  select array_agg(t.id) into v_take from take t;
  if v_take is not null then
    return query
      with taken as (
        update waemitter.event_outbox e set available_at = v_now + lease, attempts = e.attempts + 1
        where e.id = any (v_take) returning e.*)
      select t.id, t.event_id, t.type, t.subject, t.channel, t.at, t.data::text, t.traceparent, t.attempts, 0::float8
      from taken t order by t.id;
    return;
  end if;
  select extract(epoch from min(e.available_at) - clock_timestamp()) into next_due
    from waemitter.event_outbox e
    where e.subscription = claim_events.subscription and e.available_at < 'infinity';
  return next;
end $$;

-- What became of deliveries. outcomes: delivered; failed (by the target's fault, which may pass: it is left alone for a while);
-- refused (this event is: it is tried again after its `delays`); hopeless (the same, but it is given up at once); gone (the
-- target wants no more); released (never started). An outcome counts only for its attempt. An event that happened `give_up`
-- ago and was tried eight times is not tried again, a subscription that failed for `disable_after` is disabled. Returns how many
-- were given up, how many may go on since what they waited for has ended, and why the subscription was disabled, if it was.
create or replace function waemitter.settle_events(
  subscription text, ids bigint[], attempts integer[], outcomes text[], delays double precision[], errors text[],
  give_up interval, disable_after interval, out given_up integer, out woken integer, out disabled text
) language plpgsql set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
#variable_conflict use_column
declare v_now timestamptz := clock_timestamp(); v_ended bigint[]; v_delivered boolean; v_failed boolean; v_trouble text;
begin
  with locked as materialized (
    select e.id, g.outcome, g.delay, g.error, e.at < v_now - give_up and e.attempts >= 8 as old
    from unnest(ids, attempts, outcomes, delays, errors) as g (id, attempt, outcome, delay, error)
    join waemitter.event_outbox e on e.id = g.id
    where e.attempts = g.attempt and e.available_at is not null
    order by e.id for no key update of e),
  moved as (
    update waemitter.event_outbox e set
      available_at = case
        when g.outcome in ('delivered', 'hopeless') or (g.old and g.outcome in ('failed', 'refused')) then null
        when g.outcome in ('released', 'gone') then v_now
        else v_now + g.delay * interval '1 second' end,
      delivered_at = case when g.outcome = 'delivered' then v_now end,
      failed_at = case when g.outcome = 'hopeless' or (g.old and g.outcome in ('failed', 'refused')) then v_now end,
      attempts = e.attempts - (g.outcome = 'released')::integer,
      error = case when g.outcome <> 'released' then g.error else e.error end
    from locked g where e.id = g.id
    returning e.id, g.outcome, e.available_at, e.failed_at, g.error)
  select array_agg(id) filter (where m.available_at is null), count(*) filter (where m.failed_at is not null),
         coalesce(bool_or(m.outcome = 'delivered'), false), coalesce(bool_or(m.outcome = 'failed'), false),
         max(m.error) filter (where m.outcome in ('failed', 'refused', 'hopeless', 'gone')),
         max(m.outcome) filter (where m.outcome = 'gone')
    into v_ended, given_up, v_delivered, v_failed, v_trouble, disabled
    from moved m;
  if v_ended is not null then  -- the next of each subject, seen by a later snapshot than the lock's
    update waemitter.event_outbox n set available_at = v_now
    from (select (select x.id from waemitter.event_outbox x
                  where x.subscription = settle_events.subscription and x.subject = e.subject and x.available_at is not null
                  order by x.id limit 1) as id
          from waemitter.event_outbox e where e.id = any (v_ended)) w
    where n.id = w.id and n.available_at = 'infinity';
    get diagnostics woken = row_count;
  end if;
  if disabled is null and v_delivered then
    update waemitter.event_subscriptions s set failures = 0, retry_at = null, failing_since = null, last_error = null
      where s.name = settle_events.subscription and s.failing_since is not null;
  elsif v_trouble is not null then
    update waemitter.event_subscriptions s set
        failures = s.failures + v_failed::integer, failing_since = coalesce(s.failing_since, v_now), last_error = v_trouble,
        retry_at = case when v_failed then v_now + least(power(2, least(s.failures, 20)), 300) * interval '1 second' else s.retry_at end,
        disabled_at = case when disabled is not null or s.failing_since < v_now - disable_after then v_now end,
        disabled_reason = coalesce(disabled, case when s.failing_since < v_now - disable_after then 'failing' end)
      where s.name = settle_events.subscription and s.disabled_at is null
      returning s.disabled_reason into disabled;
  end if;
end $$;

create or replace function waemitter.purge_events(older_than interval default '3 days', max_rows integer default 1000)
returns integer language sql as $$
  with oldest as materialized (select id, at from waemitter.event_outbox order by id limit max_rows),
  gone as (delete from waemitter.event_outbox e using oldest o
           where e.id = o.id and o.at < clock_timestamp() - older_than returning 1)
  select count(*)::integer from gone
$$;

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'waemitter.outbox_messages'::regclass and tgname = 'outbox_told_trigger') then
    create trigger outbox_told_trigger after update on waemitter.outbox_messages
      referencing old table as before new table as after for each statement
      when (coalesce(current_setting('waemitter.untold', true), '') <> 'on') execute function waemitter.messages_changed();
    create trigger outbox_refused_trigger after insert on waemitter.outbox_messages
      for each row when (new.status <> 'queued') execute function waemitter.messages_refused();
    create trigger inbound_messages_told_trigger after insert on waemitter.inbound_messages
      referencing new table as inserted for each statement execute function waemitter.messages_received();
    create trigger message_buffer_told_trigger after update of status on waemitter.message_buffer
      for each row when (new.status in ('completed', 'failed') and old.status <> new.status)
      execute function waemitter.turn_ended();
    create trigger channels_told_trigger after update of paused_until on waemitter.channels
      for each row when (old.paused_until is distinct from new.paused_until) execute function waemitter.channel_told();
    create trigger campaigns_told_trigger after update of status on waemitter.campaigns
      for each row when (new.status in ('running', 'paused', 'completed', 'cancelled') and old.status <> new.status)
      execute function waemitter.campaign_told();
    create trigger suppressions_told_trigger after insert or delete on waemitter.suppressions
      for each row execute function waemitter.opt_out_told();
  end if;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Alerts.

-- Say that these hold, for as long as `lasting` unless it is said again; by any daemon.
create or replace function waemitter.observe_alerts(
  names text[], labels jsonb[], severities text[], summaries text[], actions text[], observed double precision[],
  holds interval[], lasting interval
) returns void language sql as $$
  insert into waemitter.alerts as a (name, labels, severity, summary, action, value, hold, seen_until)
  select distinct on (o.name, o.labels) o.name, o.labels, o.severity, o.summary, o.action, o.value, o.hold,
         clock_timestamp() + observe_alerts.lasting
  from unnest(observe_alerts.names, observe_alerts.labels, observe_alerts.severities, observe_alerts.summaries,
              observe_alerts.actions, observe_alerts.observed, observe_alerts.holds)
       as o (name, labels, severity, summary, action, value, hold)
  order by o.name, o.labels
  on conflict (name, labels) where ended_at is null do update set
    value = excluded.value, summary = excluded.summary, action = excluded.action, severity = excluded.severity,
    hold = excluded.hold, seen_until = greatest(a.seen_until, excluded.seen_until),
    since = case when a.fired_at is null and a.seen_until < clock_timestamp() then clock_timestamp() else a.since end
$$;

-- Let alerts begin and end; returns those that did. `told`: somebody is told of them. One that ended is told of only when its
-- beginning was.
create or replace function waemitter.turn_alerts(told boolean)
returns table (name text, labels jsonb, severity text, ended boolean) language plpgsql as $$
#variable_conflict use_column
declare v_now timestamptz;
begin
  perform from waemitter.alerts a where a.ended_at is null order by a.name, a.labels for update;
  v_now := clock_timestamp();
  delete from waemitter.alerts a where a.ended_at is null and a.fired_at is null and a.seen_until < v_now;
  return query
    update waemitter.alerts a set ended_at = v_now, failures = 0,
      notify_at = case when told and a.notified_at is not null then v_now end
    where a.ended_at is null and a.seen_until < v_now returning a.name, a.labels, a.severity, true;
  return query
    update waemitter.alerts a set fired_at = v_now
    where a.ended_at is null and a.fired_at is null and a.since + a.hold <= v_now
    returning a.name, a.labels, a.severity, false;
  update waemitter.alerts a set notify_at = v_now
    where told and a.ended_at is null and a.fired_at is not null and a.notify_at is null;
end $$;

-- ---------------------------------------------------------------------------------------------------------------------
-- Roles and row level security. Without the right to create roles all else is applied, and this says so.

do $$
declare v_role text; v_table text; v_function regprocedure;
begin
  foreach v_role in array array['waemitter_daemon', 'waemitter_app', 'waemitter_read'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception
        when insufficient_privilege then
          raise warning 'role % was not created: that needs CREATEROLE; ask an administrator to create it, then apply again', v_role;
        when duplicate_object or unique_violation then null;  -- another database of this cluster was quicker
      end;
    end if;
  end loop;

  for v_table in select c.relname from pg_class c where c.relnamespace = 'waemitter'::regnamespace and c.relkind = 'r'
                 and not c.relrowsecurity loop
    execute format('alter table waemitter.%I enable row level security', v_table);
  end loop;

  for v_function in select p.oid from pg_proc p  -- these have their owner's rights
                    where p.pronamespace = 'waemitter'::regnamespace and p.prosecdef loop
    execute format('revoke execute on function %s from public', v_function);
  end loop;
  if exists (select from pg_roles where rolname = 'waemitter_daemon') then
    grant execute on function waemitter.wake_lanes(bigint[]) to waemitter_daemon;
    grant execute on function waemitter.verdict(text, text, text, jsonb, text, timestamptz) to waemitter_daemon;
    grant usage on schema waemitter to waemitter_daemon;
    grant select, insert, update, delete on all tables in schema waemitter to waemitter_daemon;
    grant usage on all sequences in schema waemitter to waemitter_daemon;
    for v_table in select tablename from pg_tables t where schemaname = 'waemitter' and not exists (
        select from pg_policies p where p.schemaname = 'waemitter' and p.tablename = t.tablename and p.policyname = 'daemon') loop
      execute format('create policy daemon on waemitter.%I to waemitter_daemon using (true) with check (true)', v_table);
    end loop;
  end if;
  if exists (select from pg_roles where rolname = 'waemitter_read') then
    grant usage on schema waemitter to waemitter_read;
    grant select on all tables in schema waemitter to waemitter_read;
    for v_table in select tablename from pg_tables t where schemaname = 'waemitter' and not exists (
        select from pg_policies p where p.schemaname = 'waemitter' and p.tablename = t.tablename and p.policyname = 'reader') loop
      execute format('create policy reader on waemitter.%I for select to waemitter_read using (true)', v_table);
    end loop;
  end if;
  if exists (select from pg_roles where rolname = 'waemitter_app') then
    -- may enqueue, see its own, and call cancel_message and retry_message on its own
    grant usage on schema waemitter to waemitter_app;
    grant execute on function waemitter.wake_lanes(bigint[]) to waemitter_app;
    grant execute on function waemitter.verdict(text, text, text, jsonb, text, timestamptz) to waemitter_app;
    grant select, insert on waemitter.outbox_messages, waemitter.message_queue to waemitter_app;
    grant select on waemitter.outbox_events, waemitter.channels to waemitter_app;
    grant update (status, available_at, due_at, hold, attempts, claimed_at, whatsapp_message_id, error_code, error_message,
                  sent_at, failed_at, expires_at) on waemitter.outbox_messages to waemitter_app;
    grant select, insert on waemitter.outbox_transitions, waemitter.outbox_attempts to waemitter_app;
    grant insert on waemitter.campaign_changes, waemitter.outbox_counts to waemitter_app;
    grant select on waemitter.campaigns to waemitter_app;
    grant select, update (resolution_status, retry_count) on waemitter.dead_letters to waemitter_app;
    if not exists (select from pg_policies where schemaname = 'waemitter' and policyname = 'application') then
      create policy application on waemitter.outbox_messages to waemitter_app
        using (enqueued_by = current_user) with check (enqueued_by = current_user);
      create policy application on waemitter.outbox_transitions to waemitter_app
        using (exists (select from waemitter.outbox_messages o where o.id = message_id))
        with check (exists (select from waemitter.outbox_messages o where o.id = message_id));
      create policy application on waemitter.outbox_attempts to waemitter_app
        using (exists (select from waemitter.outbox_messages o where o.id = message_id))
        with check (exists (select from waemitter.outbox_messages o where o.id = message_id));
      create policy application on waemitter.channels for select to waemitter_app using (true);
      create policy application on waemitter.campaigns for select to waemitter_app using (true);
      create policy application on waemitter.campaign_changes for insert to waemitter_app with check (true);
      create policy application on waemitter.outbox_counts for insert to waemitter_app with check (true);
      create policy application on waemitter.dead_letters to waemitter_app
        using (exists (select from waemitter.outbox_messages o where o.id = message_id))
        with check (exists (select from waemitter.outbox_messages o where o.id = message_id));
    end if;
  end if;
end $$;
