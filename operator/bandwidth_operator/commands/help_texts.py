"""The texts of --help for each sub-command: what it does, with examples and exit codes."""

from __future__ import annotations

DESCRIPTION = """\
Turns ClientBandwidthLimit objects into the plan that the agents on the nodes enforce, and writes into the status of
each limit what became of it."""

EPILOG = """\
A first limit:

  kubectl apply -f - <<EOF
  apiVersion: clientbandwidth.io/v1alpha1
  kind: ClientBandwidthLimit
  metadata: {name: mail-loop}
  spec:
    clients: [203.0.113.7]
    egress: {rate: 5Mbit}
    ttlSeconds: 86400
    reason: "mailbox sync loop, ticket 4711"
  EOF

  kubectl get cbl                        is it in force, and on how many nodes
  kubectl describe cbl mail-loop         why not, and what to do
  kubectl get nodebandwidthstates        which node is behind, and why

Every program explains itself: bandwidth-operator run --help"""

RUN = """\
Runs the operator. Any number of replicas may run; one acts, holding the Lease client-bandwidth-operator in its
namespace, and another takes over within 20 seconds. Stopping it changes nothing on the nodes: limits stay in force,
and expire by themselves. It changes nothing of your objects but the status of limits.

SIGTERM, SIGINT and SIGQUIT stop it and give the Lease up; SIGHUP, which also comes when its terminal is closed, does
not. A log that is not read or that has no room loses lines, and planning goes on."""

RUN_EPILOG = """\
environment:
  POD_NAMESPACE  namespace of the Lease (default: client-bandwidth)
  POD_NAME       begins this replica's name in the Lease (default: the host's name)
  GUARD_RAILS    the guard rails of the chart's values, in JSON: what is tried, by dry run, is whether they are in force
  KUBECONFIG     used outside a cluster when --kubeconfig is not given

examples:
  bandwidth-operator run                                            in a pod
  bandwidth-operator run --kubeconfig ~/.kube/config --log-format text --metrics-address 127.0.0.1:8080
  curl -s localhost:8080/readyz                                     acting, standing by, or what is wrong

needs the kinds of objects, access rules and policies of deploy/install.yaml or of the chart

exit codes:
  0   stopped by a signal
  1   it cannot run here; the message says why
  64  wrong call"""

RETIRE = """\
Has every node remove what is ours from its kernel, waits until each has reported it, and takes the plan away. For the
end of an installation: `helm uninstall` runs it first. Limits themselves stay in the cluster, and say Retired.

It takes the operator's Lease, so that no replica publishes a plan meanwhile and for --stand-by afterwards. Agents that
have retired wait for the plan of a later leader. So if it fails, or nothing is deleted within --stand-by, the operator
goes on and the limits are in force again."""

RETIRE_EPILOG = """\
examples:
  kubectl -n client-bandwidth exec deploy/client-bandwidth-operator -- bandwidth-operator retire
  bandwidth-operator retire --timeout 600 --kubeconfig ~/.kube/config

A job that is a hook says whose with --hook-of, and does nothing where that tool does not manage the installation: a
hook that was applied with all the rest is no wish to end it.

exit codes:
  0   every node has retired, or every one that could be reached with --accept-missing
  1   some have not; they are named, with what is known of them
  64  wrong call"""

CHECK = """\
Whether this installation works: the kinds of objects are there, an operator acts, every node has brought its kernel to
the plan, and the guard rails refuse what they should, which is tried by server-side dry run. Waits until all that is
so; what is not is printed on stderr. Writes nothing. `helm test` runs it."""

CHECK_EPILOG = """\
environment:
  GUARD_RAILS    the guard rails of the chart's values, in JSON; set in each pod of the operator

examples:
  kubectl -n client-bandwidth exec deploy/client-bandwidth-operator -- bandwidth-operator check
  bandwidth-operator check --timeout 1 --kubeconfig ~/.kube/config

exit codes:
  0   all of it; limits that are not in force somewhere are named nevertheless
  1   something is not so; it is named
  64  wrong call"""

CLEAN = """\
For a node that the DaemonSet of the agents leaves out by now (another nodeSelector, a taint): what its agent set up
stays in its kernel, and limits count it as not reporting. Takes the node's state away, and prints a Pod that removes
what is ours from its kernel; whoever may make pods makes it. An agent that still runs there keeps the Pod from it."""

CLEAN_EPILOG = """\
examples:
  kubectl -n client-bandwidth exec deploy/client-bandwidth-operator -- bandwidth-operator clean NODE |
    kubectl create -f -
  bandwidth-operator clean NODE --kubeconfig ~/.kube/config | kubectl create -f -

exit codes:
  0   the Pod is on stdout, what to do with it on stderr
  1   it cannot be made; the message says why
  64  wrong call"""
