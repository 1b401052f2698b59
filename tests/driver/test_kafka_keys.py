"""Keys as Java's serializers write them: in the same partition as ours, and in the same table."""

from __future__ import annotations

import asyncio
import base64
import struct
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support import kafka
from support.brokers import KafkaBrokers
from support.engine_app import running, until

import streamapp
from streamapp.transport.broker import TopicSpec
from streamapp.transport.partitioner import partition_for_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = 7
UUID = "00112233-4455-6677-8899-aabbccddeeff"
#: Prints key (base64), the partition by the hash, and the one that the producer chose.
PROGRAM = """
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;
import org.apache.kafka.common.utils.Utils;

public class Keys {
    static <T> void add(List<byte[]> keys, Serializer<T> serializer, List<T> values) {
        for (T value : values) keys.add(serializer.serialize("any", value));
    }

    public static void main(String[] args) throws Exception {
        List<byte[]> keys = new ArrayList<>();
        add(keys, new StringSerializer(), List.of("", "a", "ab", "abc", "abcd"));
        add(keys, new StringSerializer(), List.of(
            "\\u00fcber", "\\u6f22\\u5b57", "\\ud83d\\ude00", "long ".repeat(500)));
        add(keys, new ByteArraySerializer(), List.of(new byte[] {0}, new byte[] {-1, -128, 127}));
        add(keys, new IntegerSerializer(), List.of(0, 1, -1, Integer.MIN_VALUE));
        add(keys, new LongSerializer(), List.of(0L, 1L, -1L, Long.MAX_VALUE));
        add(keys, new DoubleSerializer(), List.of(-0.0, 1.5, -1.5, Double.NaN));
        add(keys, new UUIDSerializer(), List.of(UUID.fromString("UUID_OF_TEST")));
        int partitions = Integer.parseInt(args[2]);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", args[0]);
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(settings, bytes, bytes)) {
            for (byte[] key : keys) {
                var record = new ProducerRecord<>(args[1], key, new byte[] {'1'});
                var sent = producer.send(record).get();
                int hashed = Utils.toPositive(Utils.murmur2(key)) % partitions;
                String text = Base64.getEncoder().encodeToString(key);
                System.out.println("key:" + text + " " + hashed + " " + sent.partition());
            }
            producer.send(new ProducerRecord<>(args[1], null, new byte[] {'1'})).get();
        }
    }
}
""".replace("UUID_OF_TEST", UUID)


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[KafkaBrokers]:
    brokers = KafkaBrokers(tmp_path)
    yield brokers
    brokers.close_all()


def produce(brokers: KafkaBrokers, folder: Path) -> dict[bytes, tuple[int, int]]:
    """Make the topic, let Java write, and return each key with its two partitions."""
    brokers.open().create_topic(TopicSpec("java", PARTITIONS))
    program = folder / "Keys.java"
    program.write_text(PROGRAM)
    words = [brokers.servers, f"{brokers.prefix}java", str(PARTITIONS)]
    command = ["java", "-cp", f"{kafka._JARS}/*", str(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line[4:].split(" ") for line in done.stdout.splitlines() if line.startswith("key:")]
    return {base64.b64decode(key): (int(hashed), int(sent)) for key, hashed, sent in rows}


async def test_keys_of_java_are_in_the_partition_and_the_table_that_ours_are_in(
    brokers: KafkaBrokers, tmp_path: Path
) -> None:
    by_java = await asyncio.to_thread(produce, brokers, tmp_path)
    assert len(by_java) == 24
    numbers = {struct.pack(">i", -1), struct.pack(">q", -1), struct.pack(">d", 1.5)}
    assert by_java.keys() >= {b"", "über".encode(), "😀".encode(), UUID.encode(), *numbers}
    for key, partitions in by_java.items():
        assert partitions == (partition_for_key(key, PARTITIONS),) * 2, key
    app = streamapp.App(
        "keys", broker=f"kafka://{brokers.servers}?prefix={brokers.prefix}",
        datadir=str(tmp_path / "data"), topic_partitions=PARTITIONS, web_enabled=False,
    )  # fmt: skip
    seen = app.Table("seen", default=int)
    null_keys: Counter[bool] = Counter()

    @app.agent(app.topic("java", key_type=bytes, value_type=int, partitions=PARTITIONS))
    async def count(stream: streamapp.Stream) -> None:
        async for key, value in stream.items():
            null_keys[key is None] += 1
            if key is not None:
                seen[key] += value

    async with running(app):
        await until(lambda: null_keys.total() == len(by_java) + 1)
        assert null_keys[True] == 1
        for key, (partition, _) in by_java.items():
            assert seen.shards[partition].read(key) == 1, key
