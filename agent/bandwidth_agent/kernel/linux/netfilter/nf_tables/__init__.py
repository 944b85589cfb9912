"""Reads what nf_tables holds in the kernel, through its netlink: tables, chains, rules, hooks; deletes only our own."""
