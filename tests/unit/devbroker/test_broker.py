from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edgesdk.devbroker import packets as p
from edgesdk.devbroker.broker import Broker, Close, Limits, Send
from edgesdk.devbroker.policy import allow_all, edge_acl
from edgesdk.devbroker.wire import Properties, Reason


class Clients:
    """Drives a Broker by hand: numbers of connections, and what each was sent."""

    def __init__(self, acl=allow_all, **limits):
        self.broker = Broker(limits=Limits(**limits), acl=acl)
        self.inbox: dict[int, list] = {}
        self.closed: set[int] = set()
        self.now = 0.0

    def do(self, effects):
        for effect in effects:
            if isinstance(effect, Send):
                self.inbox.setdefault(effect.connection, []).append(effect.packet)
            elif isinstance(effect, Close):
                self.closed.add(effect.connection)

    def send(self, number, packet):
        self.do(self.broker.receive(number, packet, self.now))

    def connect(self, number, client_id, *, clean=True, expiry=0, **more):
        properties = more.pop("properties", Properties(session_expiry=expiry or None))
        self.send(number, p.Connect(client_id=client_id, clean_start=clean, properties=properties, **more))
        return self.take(number, p.Connack)[0]

    def subscribe(self, number, *filters, qos=1, **more):
        lines = tuple(p.Filter(topic_filter=f, qos=qos, **more) for f in filters)
        self.send(number, p.Subscribe(packet_id=1, filters=lines))
        return self.take(number, p.Suback)[0].reasons

    def publish(self, number, topic, payload=b"x", *, qos=1, retain=False, properties=p.NONE):
        packet_id = 9 if qos else 0
        packet = p.Publish(
            topic=topic, payload=payload, qos=qos, retain=retain, packet_id=packet_id, properties=properties
        )
        self.send(number, packet)
        return self.take(number, p.Puback)[0].reason if qos else None

    def take(self, number, kind=p.Publish):
        inbox = self.inbox.get(number, [])
        taken = [packet for packet in inbox if isinstance(packet, kind)]
        self.inbox[number] = [packet for packet in inbox if not isinstance(packet, kind)]
        return taken

    def vanish(self, number):
        self.do(self.broker.lost(number, self.now))

    def wait(self, seconds):
        self.now += seconds
        self.do(self.broker.tick(self.now))


@pytest.fixture
def clients():
    return Clients()


def test_a_publish_reaches_subscribers_once_with_its_properties(clients):
    """Overlapping filters deliver once, at the best QoS; request/response properties pass through."""
    clients.connect(1, "a")
    clients.connect(2, "b")
    clients.subscribe(2, "t/#", qos=0)
    clients.subscribe(2, "t/+")
    properties = Properties(response_topic="r", correlation_data=b"\1", user=(("k", "v"),), content_type="json")
    assert clients.publish(1, "t/1", properties=properties) is Reason.SUCCESS
    (got,) = clients.take(2)
    assert (got.qos, got.retain, got.properties) == (1, False, properties)
    assert clients.publish(1, "nobody") is Reason.NO_MATCHING_SUBSCRIBERS


def test_unsupported_things_get_the_reason_that_mqtt_has_for_them(clients):
    """QoS 2, subscription ids, enhanced authentication, a second CONNECT: each by its own code, and closed."""
    cases = {
        Reason.QOS_NOT_SUPPORTED: p.Publish(topic="t", qos=2, packet_id=1),
        Reason.SUBSCRIPTION_IDS_NOT_SUPPORTED: p.Subscribe(
            packet_id=1, filters=(p.Filter(topic_filter="t"),), properties=Properties(subscription_ids=(1,))
        ),
        Reason.PROTOCOL_ERROR: p.Connect(client_id="again"),
    }
    for number, (reason, packet) in enumerate(cases.items(), 1):
        clients.connect(number, f"c{number}")
        clients.send(number, packet)
        assert clients.take(number, p.Disconnect)[0].reason is reason
        assert number in clients.closed
    answer = clients.connect(9, "x", properties=Properties(auth_method="SCRAM"))
    assert answer.reason is Reason.BAD_AUTHENTICATION_METHOD
    clients.connect(10, "sub")
    assert clients.subscribe(10, "t", qos=2) == (Reason.GRANTED_QOS_1,)
    assert clients.subscribe(10, "a/#/b") == (Reason.TOPIC_FILTER_INVALID,)


def test_the_first_packet_must_be_connect(clients):
    """Anything else is a protocol error and closes."""
    clients.send(1, p.Pingreq())
    assert clients.take(1, p.Connack)[0].reason is Reason.PROTOCOL_ERROR
    assert clients.closed == {1}


def test_retained_messages_follow_their_rules(clients):
    """Stored, sent by retain handling, flagged, expired by age, and deleted by an empty payload."""
    clients.connect(1, "a")
    clients.publish(1, "r/1", b"old", retain=True)
    clients.publish(1, "r/1", b"new", retain=True, properties=Properties(message_expiry=10))
    clients.subscribe(1, "r/+")
    (got,) = clients.take(1)
    assert (got.payload, got.retain, got.properties.message_expiry) == (b"new", True, 10)
    clients.subscribe(1, "r/+", retain_handling=1)
    clients.subscribe(1, "r/+", retain_handling=2)
    assert clients.take(1) == []
    clients.connect(2, "b")
    clients.now = 3.5
    clients.subscribe(2, "#", retain_handling=1)
    assert clients.take(2)[0].properties.message_expiry == 7
    clients.now = 10
    clients.connect(3, "c")
    clients.subscribe(3, "#")
    assert clients.take(3) == []
    clients.publish(1, "r/1", b"again", retain=True)
    clients.publish(1, "r/1", b"", retain=True)
    assert len(clients.broker.retained) == 0


def test_an_offline_session_queues_within_bounds_and_counts_what_it_drops():
    """QoS 1 waits for the client up to the bound; the newest beyond are dropped, counted; QoS 0 does not wait."""
    clients = Clients(max_queued=3)
    clients.connect(1, "a")
    clients.connect(2, "away", expiry=60)
    clients.subscribe(2, "t")
    clients.vanish(2)
    for number in range(5):
        clients.publish(1, "t", b"%d" % number)
    clients.publish(1, "t", b"zero", qos=0)
    assert clients.connect(3, "away", clean=False, expiry=60).session_present
    assert [packet.payload for packet in clients.take(3)] == [b"0", b"1", b"2"]
    assert clients.broker.sessions["away"].drops.queue_full == 2


def test_queued_messages_expire(clients):
    """A message whose expiry passed while the client was away is not delivered; the rest tells what is left."""
    clients.connect(1, "a")
    clients.connect(2, "away", expiry=60)
    clients.subscribe(2, "t")
    clients.vanish(2)
    clients.publish(1, "t", b"short", properties=Properties(message_expiry=5))
    clients.publish(1, "t", b"long", properties=Properties(message_expiry=50))
    clients.wait(20)
    clients.connect(3, "away", clean=False)
    assert [(packet.payload, packet.properties.message_expiry) for packet in clients.take(3)] == [(b"long", 30)]


def test_a_session_ends_when_its_expiry_passes(clients):
    """After the expiry nothing of it is left, its subscriptions included; before, it is resumed."""
    clients.connect(1, "a", expiry=10)
    clients.subscribe(1, "t")
    clients.vanish(1)
    clients.wait(9)
    assert clients.connect(2, "a", clean=False, expiry=10).session_present
    clients.vanish(2)
    clients.wait(10)
    assert "a" not in clients.broker.sessions
    assert not clients.connect(3, "a", clean=False).session_present
    assert clients.publish(3, "t") is Reason.NO_MATCHING_SUBSCRIBERS


def test_unacknowledged_deliveries_come_again_as_duplicates(clients):
    """What was not acknowledged is sent again at the reconnect, flagged, under its id; acknowledged is not."""
    clients.connect(1, "a", expiry=60)
    clients.subscribe(1, "t")
    clients.connect(2, "b")
    clients.publish(2, "t", b"1")
    clients.publish(2, "t", b"2")
    first, second = clients.take(1)
    clients.send(1, p.Puback(packet_id=first.packet_id))
    clients.vanish(1)
    clients.connect(3, "a", clean=False, expiry=60)
    (again,) = clients.take(3)
    assert (again.payload, again.dup, again.packet_id) == (b"2", True, second.packet_id)


def test_the_clients_receive_maximum_is_a_window(clients):
    """No more than the announced number is in flight; an acknowledgement lets the next one out."""
    clients.connect(1, "a", properties=Properties(receive_maximum=2))
    clients.subscribe(1, "t")
    for _ in range(4):
        clients.publish(1, "t")
    first, _second = clients.take(1)
    clients.send(1, p.Puback(packet_id=first.packet_id))
    assert len(clients.take(1)) == 1


def test_a_will_is_sent_when_a_client_vanishes_not_when_it_says_goodbye(clients):
    """Lost: will; DISCONNECT 0: none; DISCONNECT 4: will; silence beyond 1.5 keep-alives: will."""
    clients.connect(1, "watch")
    clients.subscribe(1, "w/#")
    for number, goodbye in [(2, None), (3, Reason.SUCCESS), (4, Reason.DISCONNECT_WITH_WILL)]:
        clients.connect(number, f"c{number}", will=p.Will(topic=f"w/{number}", payload=b"gone", qos=1))
        if goodbye is None:
            clients.vanish(number)
        else:
            clients.send(number, p.Disconnect(reason=goodbye))
    assert [packet.topic for packet in clients.take(1)] == ["w/2", "w/4"]
    clients.connect(5, "silent", keep_alive=10, will=p.Will(topic="w/5"))
    clients.wait(10)
    clients.send(5, p.Pingreq())
    clients.wait(14)
    assert clients.take(1) == []
    clients.wait(1)
    assert [packet.topic for packet in clients.take(1)] == ["w/5"]
    assert clients.take(5, p.Disconnect)[0].reason is Reason.KEEP_ALIVE_TIMEOUT


def test_a_will_delay_spares_a_short_absence(clients):
    """Back in time: no will. Not back: the will after the delay. Session over earlier: the will then."""
    clients.connect(1, "watch")
    clients.subscribe(1, "w")
    will = p.Will(topic="w", payload=b"gone", properties=Properties(will_delay=10))
    clients.connect(2, "a", expiry=60, will=will)
    clients.vanish(2)
    clients.wait(9)
    clients.connect(3, "a", clean=False, expiry=60, will=will)
    clients.wait(60)
    assert clients.take(1) == []
    clients.vanish(3)
    clients.wait(10)
    assert [packet.properties.will_delay for packet in clients.take(1)] == [None]
    clients.connect(4, "b", expiry=5, will=will)
    clients.vanish(4)
    clients.wait(5)
    assert len(clients.take(1)) == 1


def test_a_second_connection_takes_the_session_over(clients):
    """The older connection is told and closed; a clean start forgets the session."""
    clients.connect(1, "a", expiry=60)
    clients.subscribe(1, "t")
    assert clients.connect(2, "a", clean=False, expiry=60).session_present
    assert clients.take(1, p.Disconnect)[0].reason is Reason.SESSION_TAKEN_OVER
    assert clients.closed == {1}
    clients.vanish(1)  # the transport's late report of the old connection must not touch the new one
    clients.publish(2, "t")
    assert len(clients.take(2)) == 1
    assert not clients.connect(3, "a", clean=True).session_present
    assert clients.publish(3, "t") is Reason.NO_MATCHING_SUBSCRIBERS


def test_a_shared_subscription_gives_each_message_to_one_member(clients):
    """Members take turns; who is away is passed over while another is here; ordinary subscribers get all."""
    for number in (1, 2):
        clients.connect(number, f"m{number}", expiry=60)
        clients.subscribe(number, "$share/g/t/+")
    clients.connect(3, "all")
    clients.subscribe(3, "t/#")
    for _ in range(4):
        clients.publish(3, "t/x")
    assert [len(clients.take(number)) for number in (1, 2, 3)] == [2, 2, 4]
    clients.vanish(1)
    for _ in range(2):
        clients.publish(3, "t/x")
    assert [len(clients.take(number)) for number in (1, 2)] == [0, 2]


def test_too_large_for_the_client_is_not_sent_but_counted(clients):
    """The client's maximum packet size holds."""
    clients.connect(1, "a", properties=Properties(maximum_packet_size=50))
    clients.subscribe(1, "t")
    clients.publish(1, "t", bytes(100))
    clients.publish(1, "t", b"small")
    assert [packet.payload for packet in clients.take(1)] == [b"small"]
    assert clients.broker.sessions["a"].drops.too_large == 1


def test_too_large_a_payload_is_refused_by_name(clients):
    """Beyond 128 KiB the publisher is told."""
    clients.connect(1, "a")
    assert clients.publish(1, "t", bytes(128 * 1024)) is Reason.NO_MATCHING_SUBSCRIBERS
    assert clients.publish(1, "t", bytes(128 * 1024 + 1)) is Reason.IMPLEMENTATION_SPECIFIC


def test_the_roles_hold():
    """A device speaks only as itself and hears only what is for it; wills are judged too."""
    clients = Clients(acl=edge_acl)
    clients.connect(1, "dev1")
    clients.connect(2, "hub-process", username="hub")
    clients.connect(3, "sub", username="subscriber.dashboard")
    for number in (1, 2, 3):
        clients.subscribe(number, "#")
    assert clients.publish(1, "edge/v1/f/dev1/up/telemetry") is Reason.SUCCESS
    assert clients.publish(1, "edge/v1/f/dev2/up/telemetry") is Reason.NOT_AUTHORIZED
    assert clients.publish(1, "edge/v1/f/dev1/down/desired") is Reason.NOT_AUTHORIZED
    assert clients.publish(3, "edge/v1/f/dev1/down/desired") is Reason.NOT_AUTHORIZED
    assert clients.publish(2, "edge/v1/f/dev1/down/desired") is Reason.SUCCESS
    assert clients.publish(2, "edge/v1/f/dev2/down/desired") is Reason.SUCCESS
    assert clients.publish(2, "edge/v1/f/_all/down/cmd") is Reason.SUCCESS
    assert clients.publish(1, "edge/v1/f/dev1/up/presence") is Reason.SUCCESS
    assert [packet.topic for packet in clients.take(1)] == ["edge/v1/f/dev1/down/desired", "edge/v1/f/_all/down/cmd"]
    assert [packet.topic for packet in clients.take(3)] == ["edge/v1/f/dev1/up/telemetry"]
    clients.take(2)
    clients.connect(4, "dev4", will=p.Will(topic="edge/v1/f/dev1/up/presence"))
    clients.vanish(4)
    assert clients.take(2) == []


class AtLeastOnce(RuleBasedStateMachine):
    """A flaky client and a steady publisher: nothing of QoS 1 is lost or reordered, the window holds."""

    def __init__(self):
        super().__init__()
        self.clients = Clients()
        self.clients.connect(1, "pub")
        self.number = 1
        self.online = False
        self.sent = 0
        self.got = -1
        self.unacknowledged: deque[int] = deque()
        self.come(window=3)
        self.clients.subscribe(self.number, "t")

    @precondition(lambda self: not self.online)
    @rule(window=st.integers(1, 4))
    def come(self, window):
        self.number += 1
        self.online = True
        self.window = window
        self.unacknowledged.clear()
        properties = Properties(session_expiry=1000, receive_maximum=window)
        self.clients.connect(self.number, "flaky", clean=False, properties=properties)

    @precondition(lambda self: self.online)
    @rule()
    def go(self):
        self.online = False
        self.clients.vanish(self.number)
        self.clients.take(self.number)

    @rule()
    def publish(self):
        self.clients.publish(1, "t", b"%d" % self.sent)
        self.sent += 1

    @precondition(lambda self: self.online)
    @rule()
    def read_and_acknowledge(self):
        for packet in self.clients.take(self.number):
            value = int(packet.payload)
            assert value <= self.got + 1, "a message was skipped"
            self.got = max(self.got, value)
            self.unacknowledged.append(packet.packet_id)
        if self.unacknowledged:
            self.clients.send(self.number, p.Puback(packet_id=self.unacknowledged.popleft()))

    @invariant()
    def window_holds(self):
        assert len(self.clients.broker.sessions["flaky"].inflight) <= max(4, self.window)

    def teardown(self):
        if not self.online:
            self.come(window=4)
        for _ in range(self.sent + len(self.unacknowledged) + 5):
            self.read_and_acknowledge()
        assert self.got == self.sent - 1


TestAtLeastOnce = AtLeastOnce.TestCase
TestAtLeastOnce.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
