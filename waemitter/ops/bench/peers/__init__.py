"""Other queues in Postgres, given the same work: take a job, POST it to the sink, store the wamid in a table.

Each is a process of its own (`python -m waemitter.ops.bench.peers.<name>`), set up as its documentation shows, with the
settings that were the best of those tried here. They are optional: `pip install 'waemitter[bench]'`; those on Node are installed
by npm into a folder of the temporary ones, with pinned versions, when the bench first wants them.
"""
