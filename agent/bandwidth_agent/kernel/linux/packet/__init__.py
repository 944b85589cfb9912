"""Packets that leave, seen through packet sockets: samples by bytes, or the headers of all; they decide nothing."""
