"""A mail server's bad day, replayed in a real cluster: one client loops over its mailbox, another waits for its mail.

Two tellings: `by_hand`, where a person limits the client, and `unattended`, where a policy does.

`mailbox` and `client` run inside containers and import nothing but the standard library. `recording`, `verdict`,
`picture` and `document` are pure. Needs a cluster made by kind that has client-bandwidth-operator installed; changes
nothing in it but a namespace, a limit or a policy of its own, and one route on each node, which it takes away again.
"""
