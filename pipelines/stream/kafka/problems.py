"""What can go wrong between a lake and a broker, each as one line with the way out.

None of the messages quotes what Kafka or Java say: they may repeat a setting, and settings hold passwords.
"""

from __future__ import annotations

import re

from conf.errors import Refusal


class BrokerUnavailable(Refusal):
    """No broker answers, or not to us."""


class OffsetsLost(Refusal):
    """The topic no longer has what this lake has not read yet, or is another topic than it was."""


_OUTAGE = re.compile(
    r"org\.apache\.kafka\.common\.errors\.(?:Timeout|Disconnect|Network|BrokerNotAvailable|LeaderNotAvailable"
    r"|NotLeaderOrFollower|NotCoordinator|CoordinatorNotAvailable|CoordinatorLoadInProgress|NotController"
    r"|KafkaStorage|ReplicaNotAvailable|UnknownTopicOrPartition|UnknownLeaderEpoch|FencedLeaderEpoch|OffsetNotAvailable)"
    r"Exception|Cannot fetch record for offset|No resolvable bootstrap urls|Timed out waiting for a node assignment"
    r"|Failed to create new Kafka(?:AdminClient|Admin client|consumer)"
)
_LOSS = re.compile(
    r"KAFKA_DATA_LOSS|OffsetOutOfRangeException|[Ss]ome data may have been (?:lost|missed)|data may have been lost"
)
_REFUSED = re.compile(r"org\.apache\.kafka\.common\.errors\.\w*(?:Authentication|Authorization)Exception")

LOSS_IN_A_STREAM = (
    "the broker no longer has records that this lake has not read: its retention has removed them, or the topic was "
    "made anew. Run again to see which; to go on with what there is, set `kafka_fail_on_data_loss: false` in the "
    "settings file"
)
SILENCE_IN_A_STREAM = (
    "a Kafka broker went away and did not come back; what was published stays, run again when it answers"
)
REFUSED_IN_A_STREAM = (
    "the broker refused access; look at the settings under `kafka:` and at the broker's rules, then run again"
)


def is_outage(message: str) -> bool:
    """Whether a failed query's report tells of a broker that may come back."""
    return not is_loss(message) and not is_refusal(message) and bool(_OUTAGE.search(message))


def is_loss(message: str) -> bool:
    """Whether the message says that records are lost."""
    return bool(_LOSS.search(message))


def is_refusal(message: str) -> bool:
    """Whether the message says that the broker refuses this client."""
    return bool(_REFUSED.search(message))
