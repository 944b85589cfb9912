"""A real cluster on this machine, made by kind, with clients outside of it: for the end-to-end tests and the story.

    shell     commands with a bound on their time, and whether kind, kubectl, helm and docker are there
    cluster   the cluster: made, found again, removed; kubectl
    join      one more worker
    node      one machine of it, and what its kernel holds
    release   the chart, installed into it by helm
    client    a container outside the cluster that downloads from it
    series    what arrives on its wire, second by second
    services  pods that upload, behind NodePorts
    datapath  an eBPF datapath on all nodes, past netfilter
    monitoring  Prometheus on its control plane, with the chart's rules
    evidence  logs, objects and kernel states after a failure, in a folder

Nothing here touches another cluster, another container, or the user's kubeconfig. `inside/` runs in containers and
imports the standard library alone.
"""
