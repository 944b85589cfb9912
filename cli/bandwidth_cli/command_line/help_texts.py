"""The texts of --help for each verb, except those of single options."""

from __future__ import annotations

DESCRIPTION = """\
Finds the client that takes too much, slows it down instead of blocking it, and shows whether that holds.

  kubectl cbl top                            who gets how much now, all nodes together
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --for 1h --reason "mailbox loop, ticket 4711"
  kubectl cbl who  203.0.113.7               which limits hold it, and is it held?
  kubectl cbl why  203.0.113.7               which policy slowed it, by which figures, or what stands in the way
  kubectl cbl list                           all limits
  kubectl cbl lift 203.0.113.7               let it go again
  kubectl cbl status                         what is wrong with nodes and limits, and what to do

It asks the API server by kubectl, so that your kubeconfig, credentials, proxies and rights count as everywhere."""

EPILOG = """\
Flags of kubectl are taken wherever they stand, and handed on: --context, --kubeconfig, --cluster, --user, --as,
--as-group, --server, --token, --request-timeout and all others of `kubectl options`. Limits belong to no namespace, so
-n and --namespace change nothing.

environment:
  KUBECTL    the kubectl to run, perhaps with words: KUBECTL="minikube kubectl --" (default: the one in PATH)
  NO_COLOR   no colours

exit codes:
  0    done
  1    it could not be done; one line on stderr says why and what to do
  2    it is done, and something is not as it should be: `slow` made a limit that is not in force, `status` found
       something wrong
  64   a wrong call
  130  interrupted by Ctrl-C

Every verb explains itself: kubectl cbl slow --help"""

SLOW = """\
Slows a client down: makes a ClientBandwidthLimit for its addresses, and waits until it is in force.

First the API server is asked by a dry run whether it would take the limit. You see the manifest, and what it would
meet: other limits on the same addresses, and which of them wins; addresses of nodes. Then you are asked, then it is
made, and the nodes report within a second or two.

What is sent to the client is held to the rate on each node. The connection stays; it only gets slow."""

SLOW_EPILOG = """\
examples:
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --for 1h --reason "mailbox loop, ticket 4711"
  kubectl cbl slow 203.0.113.7 2001:db8:7::/48 --rate 5Mbit --reason "one customer, both families"
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --ports 993,143 --reason "only IMAP"
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --observe --reason "find the right rate first"
  kubectl cbl slow 203.0.113.7 --rate 2Mbit --replace --reason "5Mbit was too much"
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --reason test --dry-run -o yaml > limit.yaml
  kubectl cbl slow 203.0.113.7 --rate 5Mbit --reason "from a script" -y -o name

rates:      5Mbit, 1.5Gbit, 640kbit: bits per second, from 64kbit to 400Gbit
durations:  30m, 1h, 12h30m, 2d, from 1m to 365d; or forever
ports:      993; 993,995; 8000-8100; 53/udp; as the client dials them

exit codes:
  0   made and in force; with --dry-run: the API server would take it; with --wait 0: made
  1   not made; the message says why
  2   made, and not in force; the message says why
  64  wrong call"""

WHO = """\
Says what holds a client: which limits name its address, which of them wins, on which nodes it is in force, and, where
the cluster answers questions about traffic, how fast the client is there now."""

WHO_EPILOG = """\
examples:
  kubectl cbl who 203.0.113.7
  kubectl cbl who 2001:db8:7::/48
  kubectl cbl who 203.0.113.7 -o json | jq '.nodes[] | select(.state != "InForce")'
  kubectl cbl who 203.0.113.7 --no-traffic          objects only, nobody looks at packets

exit codes:
  0   printed, also when no limit holds it
  1   it cannot be said; the message says why
  64  wrong call"""

WHY = """\
Says which policy slowed a client down, by which figures, and when it lets it go; or what stands in the way of a limit:
it is exempt, a person's limit names it, a person pardoned it, and so on. Without an address: all policies, and what
they decided last. Policies decide; this reads what they wrote into their status."""

WHY_EPILOG = """\
examples:
  kubectl cbl why                                   all policies, and their last decisions
  kubectl cbl why 203.0.113.7
  kubectl cbl why fair-use-b215e08f71               the name of a limit
  kubectl cbl why 203.0.113.7 -o json | jq -r '.policies[].obstacle'

exit codes:
  0   printed, also where no policy has to do with it
  1   it cannot be said; the message says why
  64  wrong call"""

LIST = """\
Lists the limits of the cluster, with what they slow down to, whether they are in force, and when they end."""

LIST_EPILOG = """\
examples:
  kubectl cbl list
  kubectl cbl list -o wide                          with reasons, priorities and who made them
  kubectl cbl list --not-ready                      only those that are not in force as written
  kubectl cbl list --holding 203.0.113.7            only those that name this address
  kubectl cbl list -l clientbandwidth.io/made-by=kubectl-cbl
  kubectl cbl list -o name | xargs kubectl delete   all of them"""

LIFT = """\
Lets clients go again: deletes the limits of these names, or those that name these addresses. Where several name one, or
the limit has other clients too, it says which there are, and wants a name. All are found before any is deleted.

To lift a limit that a policy made is a pardon: the policy leaves the client alone for its spec.then.memorySeconds, and
at least as long as the limit would have lasted."""

LIFT_EPILOG = """\
examples:
  kubectl cbl lift slow-203-0-113-7
  kubectl cbl lift 203.0.113.7
  kubectl cbl lift 203.0.113.7 198.51.100.0/24 crawler
  kubectl cbl lift -l team=mail                     all limits with this label
  kubectl cbl lift slow-203-0-113-7 --dry-run
  kubectl cbl lift slow-203-0-113-7 -y              in a script

exit codes:
  0   lifted
  1   not lifted, or not all; the message says why
  64  wrong call"""

STATUS = """\
Says how the installation is: the operator, each node, the limits that are not in force; for everything that is wrong,
what to do."""

STATUS_EPILOG = """\
examples:
  kubectl cbl status
  kubectl cbl status -o wide                        with the interfaces of each node
  kubectl cbl status -o json | jq .problems

exit codes:
  0   all is well
  1   it cannot be said; the message says why
  2   something is wrong
  64  wrong call"""

TOP = """\
Shows which clients get how much now, all nodes together, the largest first.

It asks the cluster a question (ClientTrafficQuery); while it lives, and a minute at most after you are gone, the nodes
sample the packets that leave them. Nothing of the packets but their addresses, ports and lengths is looked at. You need
the right to ask (clienttrafficqueries), and the API server's audit log says who did.

On the screen: l slows the chosen client down, after the same preview as `kubectl cbl slow`; ? lists the keys."""

TOP_EPILOG = """\
examples:
  kubectl cbl top
  kubectl cbl top --nodes worker-1,worker-2
  kubectl cbl top --prefix                          by /24 and /64
  kubectl cbl top --exact                           each of the largest summed over all nodes
  kubectl cbl top --once 10                         one table, of ten seconds
  kubectl cbl top --once 10 -o json | jq -r '.clients[0].client'

exit codes:
  0   printed, or quit
  1   the cluster gives no answer; the message says why
  64  wrong call
  130 interrupted by Ctrl-C"""

COMPLETION = """\
Prints what completes the words of a call with the Tab key.

`kubectl cbl` is completed by kubectl's own completion, through a program kubectl_complete-cbl in PATH. The installed
package has it; beside the single file put what `completion kubectl` prints. The scripts of the shells are for
`kubectl-cbl`, called by its own name."""

COMPLETION_EPILOG = """\
examples:
  kubectl cbl completion kubectl > ~/bin/kubectl_complete-cbl && chmod +x ~/bin/kubectl_complete-cbl
  source <(kubectl cbl completion bash)
  kubectl cbl completion zsh > "${fpath[1]}/_kubectl-cbl"
  kubectl cbl completion fish > ~/.config/fish/completions/kubectl-cbl.fish"""

VERSION = """\
Prints the version of this plugin, of kubectl, and of what runs in the cluster."""

VERSION_EPILOG = """\
examples:
  kubectl cbl version
  kubectl cbl version --client                      of the plugin alone, without asking the cluster
  kubectl cbl version -o json"""
