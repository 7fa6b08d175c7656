"""The composition root: settings become resources, resources become services, services are supervised.

    main        what runs: resources opened and closed, services supervised, the exit code
    shared      what everybody is given a part of: settings, pool, HTTP session, doorbell, events
    sending     one sender a channel, gears, probe, reconciler
    receiving   journal and spool, presence, splitter, parked statuses
    agents      the models that answer
    jobs        what runs on the clock
    serving     the web server

A stop runs through them as it should: /health/ready turns 503 at once, the web server drains, loops claim no more, what is in
flight is settled, what was not begun is given back, and only then the pool closes.
"""

from waemitter.daemon.main import run_daemon

__all__ = ["run_daemon"]
