"""The texts of --help for each sub-command, except those of single options."""

from __future__ import annotations

DESCRIPTION = """\
Slows single clients down instead of blocking them.

You write who, how fast and until when into a YAML file; the agent keeps this host's kernel (HTB classes, one ipset
and one iptables rule per address family) exactly so, touches nothing of another program, and reports what is true."""

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

  bandwidth-agent top                                          who gets how much, to find the one to slow down
  bandwidth-agent plan    --manifests /etc/client-bandwidth    see what would be done
  bandwidth-agent run     --manifests /etc/client-bandwidth    do it, and follow every change of the files
  bandwidth-agent show                                         what is in force, and how fast each client is now
  bandwidth-agent who 203.0.113.7                              which limit holds an address, and does it
  bandwidth-agent cleanup                                      take everything away again
  bandwidth-agent install-unit                                 as a service of systemd, from boot on

Every program explains itself: bandwidth-agent run --help"""

RUN = """\
Puts limits in force on this host and keeps them so: a changed limit within a second, whatever another program does to
our rules at once, expired limits by the clock.

With --manifests the limits come from the files of a directory; to lift one delete its file. Policies in it make limits
by themselves, which are files in --state-dir (made/); to lift one of these delete that file. Without --manifests this
host is a node of a cluster: the limits come from its API server, and what became of them goes into this node's
NodeBandwidthState. The last plan is kept on disk, and used from the start on when the API server is away.

Stopping it (SIGTERM, SIGINT, SIGQUIT, even SIGKILL) leaves the limits in force; the next start adopts them unchanged.
SIGHUP, which also comes when its terminal is closed, stops nothing: everything is read again. A log that is not read
or that has no room loses lines, and limits go on. To take everything away run `bandwidth-agent cleanup`."""

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
      could not be read or written to
  64  wrong call
  70  it was stuck and ended itself; start it again"""

TOP = """\
Shows who gets how much of what leaves this host, the largest first: a screen that is drawn again every two seconds, or
with --once one table.

Rates are estimates from samples of packets: of each client the more is sampled, the more it gets, and ± says how exact
its rate is. The address is the true client's, and the port the one that it dialled, also behind a NodePort. Packet
contents are never read. While nobody looks nothing is sampled, and nothing of it is in the kernel.

The cursor chooses a client: l makes a limit for it (rate, duration, reason), shows it and what it would change, and
asks before it writes the file into --manifests; o the same in Observe mode; y the file alone. ? explains all keys.

Needs CAP_NET_RAW alone; with CAP_NET_ADMIN it also shows which limit holds a client, and whether that is slowed now.
No agent need run, and one that runs is not disturbed."""

TOP_EPILOG = """\
examples:
  bandwidth-agent top
  bandwidth-agent top --manifests /etc/client-bandwidth            l, o and y write limits there
  bandwidth-agent top --once 10
  bandwidth-agent top --once 10 -o json | jq -r '.clients[0].client'
  bandwidth-agent top --once 60 --prefix --sort 60s -o csv >who.csv
  kubectl -n client-bandwidth exec -it POD -- bandwidth-agent top   on one node of a cluster

exit codes:
  0   printed; or the screen was left by a key
  1   it cannot look, and the message says why: no CAP_NET_RAW, no such interface, no terminal for the screen
  64  wrong call
  128 and more: the number of the signal that ended it"""

PLAN = """\
Prints what `run` would change in this host's kernel, in the order in which it would be done, and changes nothing. Then
what each policy sees and decided last, as the agent that runs wrote it down."""

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
Prints what is in this host's kernel now, by limit: client, rate, the rate measured just now, drops, backlog, and
whether its packets were seen to pass its class (CHECK): verified, unverified (too few yet), or bypassed.

Needs no running agent and no manifests: it reads the kernel twice, --interval apart, and meanwhile looks at the headers
of what leaves."""

SHOW_EPILOG = """\
examples:
  bandwidth-agent show
  bandwidth-agent show --watch
  bandwidth-agent show --interval 5 -o json | jq '.limits[] | select(.backlogBytes > 0)'

exit codes:
  0   printed, even when there is nothing of ours
  1   the kernel could not be read; or eBPF programs of ours may be left that this process cannot see
  64  wrong call"""

WHO = """\
Says which limit holds an address, or a network, whether it is slowed now, and why: the set entry that was found for
it, for which ports, the class and its rate now, the interface by which its packets leave, and whether they leave past
the class. Where no limit holds it: what it takes now, and the commands that would slow it.

Needs no running agent and no manifests, and changes nothing: it reads this host's kernel, and looks at the headers of
what leaves for --seconds."""

WHO_EPILOG = """\
examples:
  bandwidth-agent who 203.0.113.7
  bandwidth-agent who 2001:db8:7::/64 --seconds 10
  bandwidth-agent who 203.0.113.7 --port 993/tcp
  bandwidth-agent who 203.0.113.7 >/dev/null; [ $? = 3 ] && echo 'no limit holds it'
  bandwidth-agent who 203.0.113.7 -o json | jq -r '.limits[].name'

exit codes:
  0   a limit holds it, or a part of the network
  1   the kernel could not be read
  3   no limit holds it
  4   a limit should hold it, and does not: its packets leave past the class, or come to none
  5   it cannot be known: CAP_NET_ADMIN is missing
  64  wrong call"""

CLEANUP = """\
Removes everything of ours from this host's kernel, and with it every limit; the original root qdiscs come back.
Everything of other programs stays as it is. Refuses while an agent runs here: it would put all of it back."""

CLEANUP_EPILOG = """\
examples:
  systemctl stop bandwidth-agent && bandwidth-agent cleanup

exit codes:
  0   nothing of ours is left, or nothing was there
  1   something could not be removed, or an agent is running
  64  wrong call"""

INSTALL_UNIT = """\
Makes the agent a service of systemd that follows /etc/client-bandwidth from boot on, and starts it: writes its unit,
one that makes saved firewall rules harmless, and a README into /etc/client-bandwidth, which limits nobody. The service
may do what the network of this host takes, and nothing else.

Called again, as after an upgrade of the program, it renews what has changed and restarts the service, while limits stay
in force. A file that you have changed is kept, and where ours is new it is written beside it (.dist); with a unit that
somebody else has written in their place nothing is done at all. Changes of your own belong into
`systemctl edit bandwidth-agent`.

--uninstall stops the service and removes these files. Limits of yours in /etc/client-bandwidth stay, and so does what
is in force, until `bandwidth-agent cleanup`."""

INSTALL_UNIT_EPILOG = """\
examples:
  bandwidth-agent install-unit
  bandwidth-agent install-unit --uninstall && bandwidth-agent cleanup
  bandwidth-agent install-unit --root debian/tmp --program /usr/sbin/bandwidth-agent

exit codes:
  0   done, or there was nothing to do
  1   it cannot be done here, or systemd refused; the message says why
  64  wrong call"""
