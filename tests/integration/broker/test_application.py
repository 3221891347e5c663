"""One suite of what edgesdk asks of a broker: the dev broker, and a real Mosquitto as it ships."""

import pytest

from edgesdk.devbroker import packets as p
from edgesdk.devbroker.wire import Properties, Reason
from edgesdk.errors import LinkError
from edgesdk.protocol.link import Message

PATIENCE_S = 20
UP = "edge/v1/f/dev1/up/"
DOWN = "edge/v1/f/dev1/down/"


def hub_hearing(connect, broker, topic_filter="edge/v1/+/+/up/#", **options):
    hub = connect(broker, "hub-1", username="hub", **options)
    hub.subscribe(topic_filter).result(PATIENCE_S)
    return hub


def test_a_publish_is_acknowledged_and_arrives_with_its_properties(broker, connect):
    """QoS 1: reason 0, payload and request/response properties unchanged."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    properties = {
        "correlation": b"\x00\x01", "response_topic": "edge/v1/f/dev1/down/cmd", "content_type": "application/json",
        "user_properties": (("a", "1"), ("a", "2")), "expiry": 60,
    }  # fmt: skip
    assert device.publish(UP + "event", b"{}", **properties).wait(PATIENCE_S) == 0
    got = hub.inbox.next()
    assert got.expiry in {59, 60}
    assert got == Message(topic=UP + "event", payload=b"{}", **{**properties, "expiry": got.expiry})


def test_qos_0_is_delivered_too(broker, connect):
    """A publish with QoS 0 is done when sent."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    assert device.publish(UP + "telemetry", b"x", qos=0).wait(PATIENCE_S) == 0
    assert hub.inbox.next().qos == 0


def test_nobody_listening_is_told(broker, connect):
    """Reason 16 says that no subscription matches; it is no failure."""
    assert connect(broker, "dev1").publish(UP + "event", b"x").wait(PATIENCE_S) == Reason.NO_MATCHING_SUBSCRIBERS


def test_retained_is_given_to_newcomers_until_deleted(broker, connect):
    """The last retained word is given, flagged; an empty payload removes it."""
    hub = connect(broker, "hub-1", username="hub")
    for payload in (b"1", b"2"):
        hub.publish(DOWN + "desired", payload, retain=True).wait(PATIENCE_S)
    device = connect(broker, "dev1")
    device.subscribe(DOWN + "desired").result(PATIENCE_S)
    got = device.inbox.next()
    assert (got.payload, got.retain) == (b"2", True)
    hub.publish(DOWN + "desired", b"", retain=True).wait(PATIENCE_S)
    assert device.inbox.next().payload == b""
    later = connect(broker, "dev1", session_expiry=0)
    later.subscribe(DOWN + "#").result(PATIENCE_S)
    hub.publish(DOWN + "cmd", b"sentinel").wait(PATIENCE_S)
    assert later.inbox.next().payload == b"sentinel"


def test_the_will_of_a_client_that_vanished_is_published(broker, connect, raw):
    """With a delay, and retained as asked."""
    hub = hub_hearing(connect, broker)
    will = p.Will(topic=UP + "presence", payload=b"gone", qos=1, retain=True, properties=Properties(will_delay=1))
    raw(broker, client_id="dev1", will=will, properties=Properties(session_expiry=60)).vanish()
    assert hub.inbox.next().payload == b"gone"
    late = hub_hearing(connect, broker)
    got = late.inbox.next()
    assert (got.payload, got.retain) == (b"gone", True)


def test_a_will_is_not_published_at_a_goodbye_unless_asked_for(broker, connect):
    """`stop()` is silent; `stop(with_will=True)` is not."""
    hub = hub_hearing(connect, broker)
    for with_will in (False, True):
        will = Message(topic=UP + "presence", payload=b"asked" if with_will else b"not asked")
        connect(broker, "dev1", will=will).stop(with_will=with_will)
    assert hub.inbox.next().payload == b"asked"


def test_a_session_keeps_what_its_client_missed_unless_it_expired(broker, connect, raw):
    """Messages wait, in order, for a device that is away; those past their expiry are gone."""
    device = connect(broker, "dev1", session_expiry=600)
    device.subscribe(DOWN + "cmd").result(PATIENCE_S)
    device.stop()
    hub = hub_hearing(connect, broker)
    hub.publish(DOWN + "cmd", b"short", expiry=1).wait(PATIENCE_S)
    for number in range(5):
        hub.publish(DOWN + "cmd", b"%d" % number, expiry=600).wait(PATIENCE_S)
    # the broker's own clock tells when two seconds are over: a will with that delay
    delay = Properties(will_delay=2)
    will = p.Will(topic="edge/v1/f/timer/up/event", payload=b"two seconds", properties=delay)
    raw(broker, client_id="timer", will=will, properties=Properties(session_expiry=60)).vanish()
    assert hub.inbox.next().payload == b"two seconds"
    back = connect(broker, "dev1", session_expiry=600, clean_start=False)
    assert back.states.next().session_present
    assert [back.inbox.next().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_denied_publish_fails_with_the_brokers_reason(broker, connect):
    """Another's topic: `link-denied` and 0x87, and the connection goes on."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    for topic in ("edge/v1/f/dev2/up/event", DOWN + "desired", "edge/v1/f/_all/down/cmd", "elsewhere"):
        handle = device.publish(topic, b"x")
        with pytest.raises(LinkError) as caught:
            handle.wait(PATIENCE_S)
        assert caught.value.code == "link-denied"
        assert handle.reason_code == Reason.NOT_AUTHORIZED
    assert device.publish(UP + "event", b"mine").wait(PATIENCE_S) == 0
    assert hub.inbox.next().payload == b"mine"


def test_each_role_hears_only_what_is_for_it(broker, connect):
    """Subscribed to everything, a device gets its own `down`, a subscriber telemetry and events, a hub all `up`."""
    device = connect(broker, "dev1")
    subscriber = connect(broker, "dashboard", username="subscriber")
    hub = hub_hearing(connect, broker)
    for link in (device, subscriber):
        link.subscribe("#").result(PATIENCE_S)
    for topic in ("edge/v1/f/dev2/down/cmd", DOWN + "cmd", "edge/v1/f/_all/down/cmd"):
        hub.publish(topic, b"x").wait(PATIENCE_S)
    for channel in ("state", "presence", "event"):
        device.publish(UP + channel, b"x").wait(PATIENCE_S)
    with pytest.raises(LinkError) as caught:
        subscriber.publish(UP + "event", b"x").wait(PATIENCE_S)
    assert caught.value.code == "link-denied"
    device.publish(UP + "telemetry", b"last").wait(PATIENCE_S)
    hub.publish(DOWN + "desired", b"last").wait(PATIENCE_S)
    assert [device.inbox.next().topic for _ in range(3)] == [
        DOWN + "cmd", "edge/v1/f/_all/down/cmd", DOWN + "desired",
    ]  # fmt: skip
    assert [subscriber.inbox.next().topic for _ in range(2)] == [UP + "event", UP + "telemetry"]
    assert [hub.inbox.next().topic for _ in range(4)] == [UP + c for c in ("state", "presence", "event", "telemetry")]


def test_a_shared_subscription_divides_the_work(broker, connect):
    """Each message goes to exactly one member of the group."""
    topic = "$share/workers/edge/v1/+/+/up/telemetry"
    members = [connect(broker, f"w{n}", username=f"subscriber.{n}") for n in "ab"]
    for member in members:
        member.subscribe(topic).result(PATIENCE_S)
    device = connect(broker, "dev1")
    for number in range(20):
        device.publish(UP + "telemetry", b"%d" % number).wait(PATIENCE_S)
    first = [members[0].inbox.next().payload for _ in range(10)]
    second = [members[1].inbox.next().payload for _ in range(10)]
    assert sorted(map(int, first + second)) == list(range(20))


def test_an_oversized_payload_reaches_nobody(broker, connect, raw):
    """The link refuses it here; a client that sends it all the same is refused or cut off, and the broker goes on."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    with pytest.raises(LinkError) as caught:
        device.publish(UP + "event", bytes(128 * 1024 + 1))
    assert caught.value.code == "message-too-large"
    assert device.publish(UP + "event", bytes(128 * 1024)).wait(PATIENCE_S) == 0
    assert len(hub.inbox.next().payload) == 128 * 1024
    for size in (128 * 1024 + 1, 500_000):
        rude = raw(broker, client_id="dev2")
        publish = p.Publish(topic="edge/v1/f/dev2/up/event", payload=bytes(size), qos=1, packet_id=1)
        rude.send(publish)
        answer = rude.receive((p.Puback, p.Disconnect))
        assert answer is None or answer.reason >= Reason.UNSPECIFIED
    device.publish(UP + "event", b"still here").wait(PATIENCE_S)
    assert hub.inbox.next().payload == b"still here"


def test_a_malformed_packet_ends_only_its_own_connection(broker, connect, raw):
    """Garbage is answered by closing; others do not notice."""
    hub = hub_hearing(connect, broker)
    rude = raw(broker, client_id="dev2")
    rude.send_bytes(bytes.fromhex("36 05 0001 61 0001"))  # QoS 3
    assert rude.receive(p.Puback) is None
    connect(broker, "dev1").publish(UP + "event", b"fine").wait(PATIENCE_S)
    assert hub.inbox.next().payload == b"fine"


def test_everything_of_a_burst_is_acknowledged_within_the_window(broker, connect):
    """Three windows full are published at once; all arrive, in order."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    assert device.window == 100
    handles = [device.publish(UP + "telemetry", b"%d" % number) for number in range(300)]
    assert {handle.wait(PATIENCE_S) for handle in handles} == {0}
    assert [int(hub.inbox.next().payload) for _ in range(300)] == list(range(300))


def test_the_link_comes_back_after_the_broker_was_killed(broker, connect):
    """After kill -9 and a restart: publishes fail honestly meanwhile, then subscription and delivery work again."""
    hub = hub_hearing(connect, broker)
    device = connect(broker, "dev1")
    assert device.states.next().online
    broker.kill()
    state = device.states.next()
    assert not state.online
    assert state.error.code == "link-offline"
    with pytest.raises(LinkError) as caught:
        device.publish(UP + "event", b"lost").wait(PATIENCE_S)
    assert caught.value.code == "link-offline"
    broker.start()
    assert hub.wait_online(PATIENCE_S)
    hub.subscribe("edge/v1/+/+/up/#").result(PATIENCE_S)
    assert device.wait_online(PATIENCE_S)
    assert device.publish(UP + "event", b"back").wait(PATIENCE_S) == 0
    assert hub.inbox.next().payload == b"back"


def test_a_second_client_with_the_same_id_takes_over(broker, connect):
    """The first is told; that is how two agents with one identity show."""
    first = connect(broker, "dev1")
    assert first.states.next().online
    raw_second = connect(broker, "dev1")
    state = first.states.next()
    assert not state.online
    if broker.kind == "devbroker":  # Mosquitto 2.0.11 closes without the DISCONNECT that says so
        assert "taken over" in str(state.error).lower()
    raw_second.stop()


@pytest.mark.mosquitto
def test_mosquitto_keeps_retained_and_queued_messages_through_a_kill(mosquitto, connect):
    """The shipped configuration saves after each pass of its loop: what a later answer proves saved survives."""
    # Mosquitto 2.0.11 writes only those sessions to disk that were opened without clean start
    device = connect(mosquitto, "dev1", session_expiry=600, clean_start=False)
    device.subscribe(DOWN + "cmd").result(PATIENCE_S)
    device.stop()
    hub = connect(mosquitto, "hub-1", username="hub")
    hub.publish(DOWN + "desired", b"truth", retain=True).wait(PATIENCE_S)
    hub.publish(DOWN + "cmd", b"queued").wait(PATIENCE_S)
    hub.publish("edge/v1/f/dev2/down/cmd", b"one more pass").wait(PATIENCE_S)
    mosquitto.kill()
    mosquitto.start()
    back = connect(mosquitto, "dev1", session_expiry=600, clean_start=False)
    assert back.inbox.next().payload == b"queued"
    back.subscribe(DOWN + "desired").result(PATIENCE_S)
    assert back.inbox.next().payload == b"truth"
