"""The link's own promises: callbacks, stopping, file descriptors, waiting, dead peers."""

import os
import resource
import signal
import socket
import threading

import pytest

from edgesdk.devbroker.broker import Limits
from edgesdk.devbroker.policy import allow_all
from edgesdk.devbroker.server import DevBroker
from edgesdk.errors import ConfigError, LinkError
from edgesdk.fleet.broker import free_port
from edgesdk.protocol.link import Link, LinkTLS

PATIENCE_S = 20


@pytest.fixture
def local():
    with DevBroker.running(acl=allow_all) as broker:
        yield broker


class Port:
    def __init__(self, port):
        self.port = port


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_callback_that_raises_does_not_take_the_link_down(local, connect, error, caplog):
    """The exception is logged, the message acknowledged, the next one handled."""
    seen = []
    done = threading.Event()

    def listen(message):
        seen.append(message.payload)
        if len(seen) == 2:
            done.set()
        raise error("from a callback")

    listener = connect(local, "listener", on_message=listen, on_state=lambda _: 1 / 0)
    listener.subscribe("t").result(PATIENCE_S)
    speaker = connect(local, "speaker")
    for payload in (b"1", b"2"):
        speaker.publish("t", payload).wait(PATIENCE_S)
    assert done.wait(PATIENCE_S)
    assert seen == [b"1", b"2"]
    assert listener.online
    assert listener.alive
    assert "a callback of the link raised" in caplog.text


def test_a_dead_network_thread_is_noticed_and_started_again(local, connect):
    """Whatever kills the thread, the next publish or subscribe brings the link back."""
    link = connect(local, "a")
    healthy = link._run
    link.stop()
    link._stopping.clear()
    link._wake_r, link._wake_w = socket.socketpair()
    link._wake_r.setblocking(False)
    assert not link.alive
    link._run = healthy
    with pytest.raises(LinkError):
        link.publish("t", b"x")
    assert link.wait_online(PATIENCE_S)
    assert link.publish("t", b"x").wait(PATIENCE_S) == 16


def test_waiting_in_a_callback_is_refused_instead_of_waiting_for_ever(local, connect):
    """`wait()` on the link's own thread raises `link-waiting`."""
    errors = []
    done = threading.Event()

    def listen(_message):
        try:
            link.publish("elsewhere", b"x").wait()
        except LinkError as error:
            errors.append(error.code)
        done.set()

    link = connect(local, "a", on_message=listen)
    link.subscribe("t").result(PATIENCE_S)
    link.publish("t", b"x").wait(PATIENCE_S)
    assert done.wait(PATIENCE_S)
    assert errors == ["link-waiting"]


def test_publishing_without_a_connection_is_refused_at_once(connect):
    """Nothing listens: `link-offline`, and the state says why."""
    link = connect(Port(free_port("127.0.0.1")), "a", wait=False)
    state = link.states.next()
    assert not state.online
    assert state.error.code == "link-offline"
    with pytest.raises(LinkError) as caught:
        link.publish("t", b"x")
    assert caught.value.code == "link-offline"
    future = link.subscribe("t")
    link.stop()
    with pytest.raises(LinkError):
        future.result(PATIENCE_S)


def test_a_peer_that_says_no_mqtt_is_given_up(connect):
    """A server that closes at once gives `link-refused`, again and again, without harm."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = connect(Port(server.getsockname()[1]), "a", wait=False)
        for _ in range(2):
            peer, _ = server.accept()
            peer.recv(1000)
            peer.close()
            assert link.states.next().error.code in {"link-refused", "link-offline"}
        link.stop()


def test_a_peer_that_never_answers_is_given_up(connect):
    """A CONNECT without an answer ends after the connect time-out."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = connect(Port(server.getsockname()[1]), "a", wait=False, connect_timeout=0.2)
        assert "in time" in str(link.states.next().error)


def test_stop_returns_while_the_broker_is_frozen(broker, connect):
    """SIGSTOP to the broker: `stop()` still returns, and what was under way fails with `link-offline`."""
    link = connect(broker, "dev1")
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        handle = link.publish("edge/v1/f/dev1/up/event", b"x")
        link.stop()
        assert not link.alive
        with pytest.raises(LinkError):
            handle.wait(PATIENCE_S)
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)


def test_file_descriptors_beyond_select_work(local, connect):
    """With every descriptor below 1024 taken, the link connects and publishes (select() never would, silently)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip(f"needs 2048 file descriptors, the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = []
    try:
        while not taken or taken[-1] < 1100:
            taken.append(os.open(os.devnull, os.O_RDONLY))
        link = connect(local, "far")
        assert link._wake_r.fileno() >= 1024
        assert link.publish("t", b"x").wait(PATIENCE_S) == 16
        link.stop()
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_brokers_receive_maximum_is_respected(connect):
    """A broker that announces 3 never sees more than 3 unacknowledged, and its packet limit is known here."""
    with DevBroker.running(acl=allow_all, limits=Limits(receive_maximum=3, max_packet=2000)) as broker:
        link = connect(broker, "a")
        assert link.window == 3
        handles = [link.publish("t", b"%d" % number) for number in range(50)]
        assert {handle.wait(PATIENCE_S) for handle in handles} == {16}
        with pytest.raises(LinkError) as caught:
            link.publish("t", bytes(2000))
        assert caught.value.code == "message-too-large"


def test_a_full_queue_says_busy(connect):
    """Publishing faster than acknowledgements come is refused, not buffered without end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = connect(Port(server.getsockname()[1]), "a", wait=False, window=1)
        peer, _ = server.accept()
        peer.sendall(bytes.fromhex("20 03 00 00 00"))
        assert link.wait_online(PATIENCE_S)
        for _ in range(10):
            link.publish("t", b"x")
        with pytest.raises(LinkError) as caught:
            link.publish("t", b"x")
        assert caught.value.code == "link-busy"
        peer.close()


@pytest.mark.parametrize(("topic", "qos"), [("a/+", 1), ("", 1), ("a", 2)])
def test_a_message_that_mqtt_cannot_carry_is_refused(topic, qos):
    """Wildcards, empty topics and QoS 2 are errors of the caller."""
    with pytest.raises(LinkError) as caught:
        Link("127.0.0.1", 1, "a").publish(topic, b"", qos=qos)
    assert caught.value.code == "message-invalid"


def test_missing_tls_files_are_named_at_once(tmp_path):
    """The constructor says which file is not there."""
    with pytest.raises(ConfigError) as caught:
        Link("127.0.0.1", 1, "a", tls=LinkTLS(ca=tmp_path / "ca.pem"))
    assert caught.value.code == "file-missing"
    assert "ca.pem" in str(caught.value)


def test_the_dev_broker_binds_to_loopback_only():
    """Any other address is a configuration error, a busy port too."""
    for host in ("0.0.0.0", "192.0.2.1", "example.org", ""):
        with pytest.raises(ConfigError) as caught:
            DevBroker(host=host)
        assert caught.value.code == "insecure-bind"
    with DevBroker.running() as broker:
        with pytest.raises(ConfigError) as caught, DevBroker.running(port=broker.port):
            pass
        assert caught.value.code == "port-in-use"
