"""How a packet finds its class: one module per classifier, what they share, the choice between them, and the change.

match     which packets belong to a limit: sets and a chain of iptables (`sets_and_chain`)
carry     how they take their class id to the tree: in the mark (`mark`) or in the skb priority (`priority`)
own       which limit a class id belongs to, as the kernel shows it (`ownership`); ids for new ones (`class_ids`)
"""

from bandwidth_agent.planner.classifier.choice import choose
from bandwidth_agent.planner.classifier.strategy import Classifier

__all__ = ["Classifier", "choose"]
