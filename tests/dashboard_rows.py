"""A day in the life of a shop, for the pages to show."""

from __future__ import annotations

import asyncpg

ROWS = (
    """
    insert into waemitter.campaigns (name, status, message_type, total, sent, delivered, read, failed, clicked, replied,
      suppressed,
                                     started_at, created_at)
    values ('Autumn sale', 'running', 'template', 4800, 3120, 2980, 1711, 42, 301, 96, 18, now() - interval '20 minutes',
            now() - interval '1 day'),
           ('Opening hours', 'completed', 'template', 950, 941, 930, 702, 9, 12, 31, 0, now() - interval '2 days',
            now() - interval '3 days'),
           ('Winter preview', 'draft', 'template', 0, 0, 0, 0, 0, 0, 0, 0, null, now() - interval '2 hours')
    """,
    """
    insert into waemitter.outbox_messages (recipient, message_type, payload, status, available_at, due_at, attempts, created_at,
      claimed_at, sent_at, delivered_at, read_at, failed_at, error_code, error_message, campaign_id, whatsapp_message_id, token)
    select '+1415555' || lpad(n::text, 4, '0'), 'text', '{"text": {"body": "Your order is on its way"}}',
      s, case when s = 'queued' then now() + n * interval '1 minute' end, null, case when s = 'queued' then 0 else 1 end,
      now() - n * interval '3 minutes', case when s <> 'queued' then now() - n * interval '3 minutes' end,
      case when s in ('sent', 'delivered', 'read') then now() - n * interval '3 minutes' end,
      case when s in ('delivered', 'read') then now() - n * interval '2 minutes' end,
      case when s = 'read' then now() - n * interval '1 minute' end, case
        when s = 'failed' then now() - n * interval '1 minute' end,
      case when s = 'failed' then 131026 end, case when s = 'failed' then 'Message undeliverable' end,
      case when n % 3 = 0 then 1 end, case when s not in ('queued', 'failed') then 'wamid.' || n end, n
    from (select n, (array['queued', 'sent', 'delivered', 'read', 'read', 'delivered', 'failed', 'read'])[1 + n % 8] as s
          from generate_series(1, 60) n) w order by n desc
    """,
    """
    insert into waemitter.contacts (channel, wa_id, name)
    select 'default', '1415555' || lpad(n::text, 4, '0'), 'Customer ' || n
    from generate_series(1, 6) n
    """,
    """
    insert into waemitter.conversations (channel, contact_id, status, last_inbound_at, takeover_until)
    select 'default', id, (array['idle', 'buffering', 'human', 'error', 'idle', 'idle'])[n],
      now() - n * interval '4 hours', case when n = 3 then now() + interval '3 hours' end
    from (select id, row_number() over (order by id) as n from waemitter.contacts) c
    """,
    """
    insert into waemitter.inbound_messages (conversation_id, whatsapp_message_id, message_type, payload, created_at)
    select v.id, 'wamid.in.' || v.id, 'text', '{"text": {"body": "Where is my order?"}}', v.last_inbound_at
    from waemitter.conversations v
    """,
    """
    insert into waemitter.conversation_state_transitions (conversation_id, from_status, to_status, reason, at)
    select id, 'idle', status, 'a window was opened', updated_at - interval '10 minutes' from waemitter.conversations
    where status <> 'idle'
    """,
    """
    insert into waemitter.message_buffer (conversation_id, status, message_count, buffer_start_time, closes_at, closed_at,
      oldest_at,
                                          route, outcome, processed_at, flush_reason)
    select v.id, s, 1 + n % 3, now() - n * interval '40 minutes', case when s = 'open' then now() + interval '4 minutes' end,
      case when s <> 'open' then now() - n * interval '39 minutes' end, now() + interval '9 minutes',
      case when s <> 'open' then (array['menu', 'rides', 'fallback'])[1 + n % 3] end,
      case s when 'completed' then (array['answered', 'answered', 'human'])[1 + n % 3] when 'failed' then 'failed' end,
      case when s <> 'open' then now() - n * interval '39 minutes' + n * interval '310 milliseconds' end,
      case when s <> 'open' then 'time' end
    from generate_series(1, 40) n
    cross join lateral (select case n when 2 then 'open' when 4 then 'failed' else 'completed' end as s) w
    join (select id, row_number() over (order by id) as place from waemitter.conversations) v on v.place = 1 + (n - 1) % 6
    order by n desc
    """,
    """
    insert into waemitter.buffer_processing_jobs (buffer_id, status, attempts, error_message)
    select id, case status when 'open' then 'scheduled' else status end, case status when 'open' then 0
      when 'failed' then 3 else 1 end,
      case status when 'failed' then 'HandlerFailed: the service answered 503' end
    from waemitter.message_buffer
    on conflict (buffer_id) do update set status = excluded.status, attempts = excluded.attempts,
      error_message = excluded.error_message
    """,
    """
    insert into waemitter.agent_sessions (agent, variant, model, contact_id, conversation_id, turn_id, attempt, outcome,
      handover, calls,
      tool_calls, input_tokens, output_tokens, cost, latency_ms, error, started_at, ended_at)
    select 'assistant', case when n % 10 = 0 then 'large' else 'small' end, 'gpt-4o-mini', 1, 1, n, 1,
      case when n % 17 = 0 then 'fallback' when n % 23 = 0 then 'failed' else 'answered' end, n % 19 = 0, 1 + n % 2, n % 2,
      700 + n, 60 + n % 40, 0.00018, 900 + n * 13, case when n % 17 = 0 then 'timeout: no answer within 30.0 s'
      when n % 23 = 0 then 'rate_limited: the endpoint answered 429' end, now() - n * interval '11 minutes',
      now() - n * interval '11 minutes' + interval '2 seconds'
    from generate_series(1, 120) n order by n desc
    """,
    """
    insert into waemitter.agent_usage (agent, day, contact_id, tokens)
    values ('assistant', (clock_timestamp() at time zone 'UTC')::date, 0, 91_240)
    on conflict (agent, day, contact_id) do update set tokens = excluded.tokens
    """,
    """
    insert into waemitter.dead_letters (direction, source, stage, channel, payload, error, error_code, contact, created_at)
    select (array['outbound', 'inbound'])[1 + n % 2], 'whatsapp', (array['send', 'handler'])[1 + n % 2], 'default', '{"n": 1}',
      (array['Message undeliverable', 'HandlerFailed: the service answered 503'])[1 + n % 2],
      case when n % 2 = 0 then 131026 end, '14155550123', now() - n * interval '4 minutes'
    from generate_series(1, 9) n order by n desc
    """,
    """
    insert into waemitter.webhook_logs (source, body, available_at, processed_at, created_at, attempts, error)
    select 'whatsapp', '{"object":"whatsapp_business_account","entry":[]}', case when n = 1 then now() end,
      case when n not in (1, 7) then now() - n * interval '90 seconds' + interval '35 milliseconds' end,
      now() - n * interval '90 seconds', 1, case when n = 7 then 'ValueError: a value has neither messages nor statuses' end
    from generate_series(1, 25) n order by n desc
    """,
    """
    insert into waemitter.jobs (name, schedule, default_schedule, next_run_at)
    values ('dlq-processor', '5m', '5m', now() + interval '3 minutes'),
           ('refresh-analytics', '1h', '1h', now() + interval '20 minutes'),
           ('retention', '0 2 * * *', '0 2 * * *', now() + interval '9 hours'),
           ('session-cleanup', '0 2 * * *', '0 2 * * *', now() + interval '9 hours')
    on conflict (name) do nothing
    """,
    """
    insert into waemitter.job_runs (job_name, reason, status, summary, error, created_at, started_at, finished_at)
    select (array['dlq-processor', 'refresh-analytics'])[1 + n % 2], 'schedule', case
      when n = 5 then 'failed' else 'succeeded' end,
      case when n <> 5 then '{"success": true, "processed": 4, "successful": 3, "failed": 1, "durationMs": 61}'::jsonb end,
      case when n = 5 then 'DatabaseUnreachable: the database is away' end, now() - n * interval '5 minutes',
      now() - n * interval '5 minutes', now() - n * interval '5 minutes' + interval '61 milliseconds'
    from generate_series(1, 12) n order by n desc
    """,
    """
    insert into waemitter.audit_log (action, target, actor, key_name, request_id)
    values ('dashboard.pause', 'default', null, 'Bob', 'a1'), ('dashboard.resume', 'default', null, 'Bob', 'a2'),
           ('dashboard.takeover', 'conversation 3', null, 'Ada', 'a3')
    """,
    """
    update waemitter.channels set quality = 'GREEN', tier = 'TIER_10K', display_number = '15550783881',
      token_expires_at = now() + interval '9 days'
    """,
    "select waemitter.refresh_analytics()",
)


async def furnish(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    """Into an empty database."""
    for row in ROWS:
        await pool.execute(row)
