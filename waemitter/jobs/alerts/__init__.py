"""Who must be told that something is wrong, and is told.

Each daemon watches its own figures, the same that Prometheus sees; what holds is kept true in the table `alerts`, one row for
all daemons. A job, which one of them runs at a time, adds what only the database tells, sees which alerts begin and end, and
posts those.

rules       every alert: how urgent, after how long, what it says and what to do; in step with deploy/prometheus/rules.yaml
history     a daemon's figures of the last day
conditions  which rules hold, by a history or by what the database tells
body        alerts as Alertmanager posts them
store       the table
receiver    the address that is posted to
watch       a daemon's own loop
away        what cannot be in the table: that Postgres is away
notifier    the job
"""
