"""The operator: all limits in, one plan out, and what became of each limit in its status.

    cli                    options in, an exit code out
    run                    one process: signals, the lease, a term of acting after another
    term                   one term: lists, watch, compile, publish, statuses, by one thread
    watch                  kopf: events into the memory, nothing else
    publish, statuses, occurrences   the three kinds of writes, behind one fence and one token bucket
    retire, withdrawal     the end of an installation: all nodes give up what is ours, and limits say so
    lease                  one acting replica
    memory                 what is known of the cluster
    rollup, slicing, history, verdicts     pure

Never writes metadata or spec of a user's object; has no finalizer, no annotation, no webhook.
"""
