"""What of the kernel the baselines must know."""

from __future__ import annotations

from bandwidth_lab import Namespace


def has_fq_codel(namespace: Namespace) -> bool:
    """Whether a leaf can be fq_codel; tried on the loopback of a namespace of ours and taken away again."""
    done = namespace.run(["tc", "qdisc", "add", "dev", "lo", "root", "fq_codel"], check=False)
    if done.returncode:
        return False
    namespace.run(["tc", "qdisc", "del", "dev", "lo", "root"])
    return True
