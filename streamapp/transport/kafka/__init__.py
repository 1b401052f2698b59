"""Apache Kafka: a cluster as the broker, by librdkafka.

What differs from the other brokers is said where it happens: offsets have holes (``transactions``),
an ``append`` of several records may stay half done (``broker``), times before 1970 cannot be
written (``records``).
"""

from streamapp.transport.kafka.broker import KafkaBroker
from streamapp.transport.kafka.options import KafkaOptions, parse_options

__all__ = ["KafkaBroker", "KafkaOptions", "parse_options"]
