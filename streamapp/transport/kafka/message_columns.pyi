from confluent_kafka import Message

from streamapp.transport.kafka.runs import Columns

def take_run(messages: list[Message], start: int, columns: Columns) -> tuple[int, int]: ...
