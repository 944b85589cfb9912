"""Drivers for sets, rules and marks, through ipset's netlink, iptables and nftables; they decide nothing."""
