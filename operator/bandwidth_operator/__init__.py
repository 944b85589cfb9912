"""The operator: compiles all limits into one plan, and writes into each limit's status what the nodes report.

    cli            options in, an exit code out
    commands/      the sub-commands, one module each: run, check, clean, retire
    leader/        what the acting replica does: lists, watch, plan, publish, statuses, one turn after another
    publish/       all limits → the plan → its slices in the cluster
    status/        reports of nodes → conditions, statuses and Events of each limit
    retire/        the end of an installation: all nodes remove what is ours, and all limits report it
    election/      the Lease by which one replica leads, its fence, and the writer that both hold back
    cache/         the objects of the cluster: kopf's watch, whole lists, and whether the watches bring everything
    protection/    what no limit may slow down, and whether the admission policies are in force
    reporting/     metrics and health of the process itself

Never writes metadata or spec of a user's object; has no finalizer, no annotation, no webhook.
"""
