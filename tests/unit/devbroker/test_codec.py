import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.devbroker import packets as p
from edgesdk.devbroker.codec import Decoder, encode
from edgesdk.devbroker.wire import SPECS, PacketError, Properties, Reason

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), max_size=20)
TOPIC = TEXT.filter(bool)
IDS = st.integers(1, 65535)
REASONS = st.sampled_from(Reason)
VALUES = {
    "byte": st.integers(0, 1),
    "u16": st.integers(1, 65535),
    "u32": st.integers(1, 2**32 - 1),
    "varint": st.integers(1, 268_435_455),
    "text": TEXT,
    "binary": st.binary(max_size=20),
    "pair": st.tuples(TEXT, TEXT),
}


def properties(kind):
    optional = {}
    for name, spec in SPECS.items():
        if kind in spec.kinds and name != "topic_alias":
            value = VALUES[spec.form]
            optional[name] = st.lists(value, max_size=3).map(tuple) if name in {"user", "subscription_ids"} else value
    return st.fixed_dictionaries({}, optional=optional).map(lambda values: Properties(**values))


WILLS = st.builds(
    p.Will,
    topic=TOPIC, payload=st.binary(max_size=40), qos=st.integers(0, 2), retain=st.booleans(),
    properties=properties("will"),
)  # fmt: skip
PACKETS = st.one_of(
    st.builds(
        p.Connect,
        client_id=TEXT, clean_start=st.booleans(), keep_alive=st.integers(0, 65535), username=st.none() | TEXT,
        password=st.none() | st.binary(max_size=20), will=st.none() | WILLS, properties=properties("connect"),
        version=st.just(5),
    ),
    st.builds(p.Connack, session_present=st.booleans(), reason=REASONS, properties=properties("connack")),
    st.builds(
        p.Publish,
        topic=TOPIC, payload=st.binary(max_size=300), qos=st.integers(1, 2), retain=st.booleans(), dup=st.booleans(),
        packet_id=IDS, properties=properties("publish"),
    ),
    st.builds(p.Publish, topic=TOPIC, payload=st.binary(), qos=st.just(0), packet_id=st.just(0), dup=st.just(False)),
    st.builds(p.Puback, packet_id=IDS, reason=REASONS, properties=properties("puback")),
    st.builds(
        p.Subscribe,
        packet_id=IDS, properties=properties("subscribe"),
        filters=st.lists(
            st.builds(p.Filter, topic_filter=TEXT, qos=st.integers(0, 2), retain_handling=st.integers(0, 2)),
            min_size=1, max_size=4,
        ).map(tuple),
    ),
    st.builds(
        p.Suback, packet_id=IDS, reasons=st.lists(REASONS, max_size=4).map(tuple), properties=properties("suback")
    ),
    st.builds(
        p.Unsubscribe,
        packet_id=IDS, filters=st.lists(TEXT, min_size=1, max_size=4).map(tuple), properties=properties("unsubscribe"),
    ),
    st.builds(p.Unsuback, packet_id=IDS, reasons=st.lists(REASONS, max_size=4).map(tuple)),
    st.just(p.Pingreq()),
    st.just(p.Pingresp()),
    st.builds(p.Disconnect, reason=REASONS, properties=properties("disconnect")),
    st.builds(p.Auth, reason=st.integers(0, 255), properties=properties("auth")),
)  # fmt: skip


@given(st.lists(PACKETS, max_size=4), st.integers(1, 50))
def test_packets_survive_the_wire_in_pieces_of_any_size(sent, size):
    """Encoding, cutting into pieces and decoding gives the same packets in the same order."""
    stream = b"".join(encode(packet) for packet in sent)
    decoder = Decoder()
    got = [packet for at in range(0, len(stream), size) for packet in decoder.feed(stream[at : at + size])]
    assert got == sent


@given(st.binary(max_size=200), st.sampled_from([4, 5]))
def test_garbage_is_refused_or_waited_for_never_a_crash(data, version):
    """Whatever comes in, the only exception is PacketError."""
    with contextlib.suppress(PacketError):
        list(Decoder(version=version).feed(data))


@given(PACKETS, st.data())
def test_a_damaged_packet_is_refused_or_read_never_a_crash(packet, data):
    """One byte changed anywhere in a real packet gives packets or PacketError."""
    raw = bytearray(encode(packet))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PacketError):
        list(Decoder().feed(bytes(raw)))


def test_an_oversized_packet_is_refused_from_its_header_alone():
    """The limit holds before the body has arrived, so memory stays bounded."""
    header = encode(p.Publish(topic="a", payload=bytes(5000)))[:4]
    with pytest.raises(PacketError) as caught:
        list(Decoder(max_packet=4096).feed(header))
    assert caught.value.reason is Reason.PACKET_TOO_LARGE


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (bytes.fromhex("100c 0004 4d515454 06 02 003c 0000"), Reason.UNSUPPORTED_PROTOCOL_VERSION),
        (bytes.fromhex("36 05 0001 61 0001"), Reason.MALFORMED_PACKET),  # QoS 3
        (bytes.fromhex("30 05 0001 2b 00 78"), Reason.TOPIC_NAME_INVALID),  # topic '+'
        (bytes.fromhex("30 07 0001 61 03 23 0001"), Reason.TOPIC_ALIAS_INVALID),
        (bytes.fromhex("62 02 0001"), Reason.PROTOCOL_ERROR),  # PUBREL
        (bytes.fromhex("80 06 0001 00 0001 61"), Reason.MALFORMED_PACKET),  # reserved flags of SUBSCRIBE
        (bytes.fromhex("30 ffffffff"), Reason.MALFORMED_PACKET),  # remaining length never ends
        (bytes.fromhex("82 03 0001 00"), Reason.PROTOCOL_ERROR),  # no filter
    ],
)
def test_each_violation_has_its_reason(raw, reason):
    """Malformed, unsupported and forbidden things get the reason code that MQTT gives them."""
    with pytest.raises(PacketError) as caught:
        list(Decoder().feed(raw))
    assert caught.value.reason is reason


def test_mqtt_311_has_no_properties_and_its_own_codes():
    """A 3.1.1 Connect switches the decoder, and answers leave out what 3.1.1 cannot say."""
    decoder = Decoder()
    connect = p.Connect(client_id="old", version=4, username="u", password=b"p", will=p.Will(topic="w", payload=b"x"))
    assert list(decoder.feed(encode(connect))) == [connect]
    assert decoder.version == 4
    assert encode(p.Connack(reason=Reason.NOT_AUTHORIZED), 4) == bytes.fromhex("20 02 00 05")
    assert encode(p.Puback(packet_id=7, reason=Reason.NOT_AUTHORIZED), 4) == bytes.fromhex("40 02 00 07")
    publish = p.Publish(topic="a", payload=b"b", qos=1, packet_id=3)
    assert list(decoder.feed(encode(publish, 4))) == [publish]
