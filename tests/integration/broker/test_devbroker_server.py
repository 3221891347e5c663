"""The dev broker's server: many clients at once, and MQTT 3.1.1."""

import asyncio

from edgesdk.devbroker import packets as p
from edgesdk.devbroker.codec import Decoder, encode
from edgesdk.devbroker.server import DevBroker


async def talk(port, *packets, version=5, until):
    """Send packets and return the first answer of the kind `until`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for packet in packets:
        writer.write(encode(packet, version))
    decoder = Decoder(version=version)
    try:
        while data := await reader.read(65536):
            for packet in decoder.feed(data):
                if isinstance(packet, until):
                    return packet
    finally:
        writer.close()
    return None


def test_a_fleet_that_connects_in_one_instant_is_served():
    """600 simultaneous connections: none is turned away, each publish is acknowledged."""

    async def main():
        broker = DevBroker()
        await broker.start()
        publish = {"payload": b"1", "qos": 1, "packet_id": 1, "retain": True}
        answers = await asyncio.gather(
            *(
                talk(
                    broker.port,
                    p.Connect(client_id=f"d{n}"),
                    p.Publish(topic=f"edge/v1/f/d{n}/up/presence", **publish),
                    until=p.Puback,
                )
                for n in range(600)
            )
        )
        await broker.stop()
        return answers, len(broker.core.retained)

    answers, retained = asyncio.run(main())
    assert all(answer is not None for answer in answers)
    assert retained == 600


def test_mqtt_311_clients_are_served():
    """An older client subscribes and gets what it publishes itself, without properties."""

    async def main():
        broker = DevBroker(acl=lambda *_: True)
        await broker.start()
        got = await talk(
            broker.port,
            p.Connect(client_id="old", version=4),
            p.Subscribe(packet_id=1, filters=(p.Filter(topic_filter="t/#", qos=1),)),
            p.Publish(topic="t/1", payload=b"x", qos=1, packet_id=2),
            version=4,
            until=p.Publish,
        )
        await broker.stop()
        return got

    assert asyncio.run(main()) == p.Publish(topic="t/1", payload=b"x", qos=1, packet_id=1)
