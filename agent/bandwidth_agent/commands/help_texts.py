"""What --help teaches of each program, beside its options."""

from __future__ import annotations

DESCRIPTION = """\
Slows single clients down instead of blocking them.

You write who, how fast and until when into a YAML file; the agent keeps this host's kernel (HTB classes, one ipset
and one iptables rule per address family) exactly so, touches nothing of anybody else, and tells the truth about it."""

EPILOG = """\
A first limit, in /etc/client-bandwidth/mail-loop.yaml:

  apiVersion: clientbandwidth.io/v1alpha1
  kind: ClientBandwidthLimit
  metadata:
    name: mail-loop
  spec:
    clients: [203.0.113.7, "2001:db8:7::/48"]
    egress:
      rate: 5Mbit
    ttlSeconds: 86400
    reason: "mailbox sync loop, ticket 4711"

  bandwidth-agent plan    --manifests /etc/client-bandwidth    see what would be done
  bandwidth-agent run     --manifests /etc/client-bandwidth    do it, and follow every change of the files
  bandwidth-agent show                                         what is in force, and how fast each client is now
  bandwidth-agent cleanup                                      take everything away again

Every program explains itself: bandwidth-agent run --help"""

RUN = """\
Puts limits in force on this host and keeps them so: a changed limit within a second, whatever another program does to
our rules at once, expired limits by the clock.

With --manifests the limits come from the files of a directory; to lift one delete its file. Without, this host is a
node of a cluster: the limits come from its API server, and what became of them goes into this node's
NodeBandwidthState. The last plan is kept on disk, and used from the start on when the API server is away.

Stopping it (SIGTERM, SIGINT, even SIGKILL) leaves the limits in force; the next start adopts them unchanged.
To take everything away run `bandwidth-agent cleanup`."""

RUN_EPILOG = """\
examples:
  bandwidth-agent run --manifests /etc/client-bandwidth
  bandwidth-agent run --manifests DIR --interface 'eth*' --interface wg0
  bandwidth-agent run --manifests DIR --once -o json | jq .failing
  bandwidth-agent run --manifests DIR --metrics-address 127.0.0.1:9100
  bandwidth-agent run --metrics-address :9100                      in a pod, with NODE_NAME in its environment
  bandwidth-agent run --kubeconfig FILE --node-name worker-3       as a service of the host

exit codes:
  0   stopped by a signal; with --once: every limit is in force
  1   it cannot run here (the message says why); with --once: also when a limit is not in force, or the cluster
      could not be read or told
  64  wrong call"""

PLAN = """\
Prints what `run` would change in this host's kernel, in the order in which it would be done, and changes nothing."""

PLAN_EPILOG = """\
examples:
  bandwidth-agent plan --manifests DIR
  bandwidth-agent plan --manifests DIR --exit-code >/dev/null || echo 'differs'
  bandwidth-agent plan --manifests DIR -o json | jq -r '.steps[].lines[]'

exit codes:
  0   the plan was made; with --exit-code: and there is nothing to change
  1   no plan could be made
  2   with --exit-code: there are changes
  64  wrong call"""

SHOW = """\
Prints what is in this host's kernel now, by limit: client, rate, the rate measured just now, drops, backlog.

Needs no running agent and no manifests: it reads the kernel only, twice, --interval apart."""

SHOW_EPILOG = """\
examples:
  bandwidth-agent show
  bandwidth-agent show --watch
  bandwidth-agent show --interval 5 -o json | jq '.limits[] | select(.backlogBytes > 0)'

exit codes:
  0   printed, even when there is nothing of ours
  1   the kernel could not be read
  64  wrong call"""

CLEANUP = """\
Removes everything of ours from this host's kernel, and with it every limit; the original root qdiscs come back.
Everything of anybody else stays as it is. Refuses while an agent runs here: it would put all of it back."""

CLEANUP_EPILOG = """\
examples:
  systemctl stop bandwidth-agent && bandwidth-agent cleanup

exit codes:
  0   nothing of ours is left, or nothing was there
  1   something could not be removed, or an agent is running
  64  wrong call"""
