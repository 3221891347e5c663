"""Mutual TLS and the three roles on a real Mosquitto with the configuration that ships."""

import datetime as dt
import ipaddress
import queue

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgesdk.errors import ConfigError, LinkError
from edgesdk.fleet.broker import start_mosquitto
from edgesdk.fleet.mosquitto import BrokerTLS
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link import Link, LinkTLS

pytestmark = pytest.mark.mosquitto
PATIENCE_S = 20


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder, name):
        folder.mkdir(parents=True)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._revoked = []
        basic = (x509.BasicConstraints(ca=True, path_length=0), True)
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        self.certificate = self._certify(self._name, self._key.public_key(), [basic, (usage, True)])
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _certify(self, subject, public_key, extensions):
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name, *, server=False):
        """Write a certificate and its key; returns the two paths."""
        key = ec.generate_private_key(ec.SECP256R1())
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        extensions = [(x509.ExtendedKeyUsage([use]), False)]
        if server:
            extensions.append((x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._certify(subject, key.public_key(), extensions)
        cert_path, key_path = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        key_path.touch(mode=0o600)
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_path, key_path

    def client(self, name):
        """Return what a client of this name, that trusts this authority, connects with."""
        cert, key = self.issue(name)
        return LinkTLS(ca=self.ca, cert=cert, key=key)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("pki") / "fleet", "the fleet's authority")


@pytest.fixture(scope="module")
def port(fleet, tmp_path_factory):
    cert, key = fleet.issue("broker", server=True)
    tls = BrokerTLS(ca=fleet.ca, cert=cert, key=key)
    with start_mosquitto(tmp_path_factory.mktemp("mosquitto"), tls=tls) as broker:
        yield broker.port


@pytest.fixture
def tls_link(connect, port, fleet):
    def make(name, *, client_id=None, tls=None, **options):
        class Where:
            pass

        Where.port = port
        return connect(Where, client_id or name, tls=tls or fleet.client(name), **options)

    return make


def test_a_device_speaks_and_hears_as_itself(tls_link):
    """Own topics both ways, with a certificate."""
    hub, device = tls_link("hub"), tls_link("dev1")
    hub.subscribe("edge/v1/+/+/up/#").result(PATIENCE_S)
    device.subscribe("edge/v1/f/dev1/down/#").result(PATIENCE_S)
    assert device.publish("edge/v1/f/dev1/up/event", b"hello").wait(PATIENCE_S) == 0
    assert hub.inbox.next().payload == b"hello"
    assert hub.publish("edge/v1/f/dev1/down/cmd", b"do").wait(PATIENCE_S) == 0
    assert device.inbox.next().payload == b"do"


def test_a_certificate_gives_the_client_id_whatever_the_client_says(tls_link):
    """dev1's certificate that connects as dev2 (id and user name) is dev1: it cannot speak or hear as dev2."""
    impostor = tls_link("dev1", client_id="dev2", username="hub")
    impostor.subscribe("edge/v1/f/+/down/#").result(PATIENCE_S)
    for topic in ("edge/v1/f/dev2/up/event", "edge/v1/f/dev3/down/cmd"):
        with pytest.raises(LinkError) as caught:
            impostor.publish(topic, b"x").wait(PATIENCE_S)
        assert caught.value.code == "link-denied"
    hub = tls_link("hub")
    hub.publish("edge/v1/f/dev2/down/cmd", b"not for dev1").wait(PATIENCE_S)
    hub.publish("edge/v1/f/_all/down/cmd", b"for all").wait(PATIENCE_S)
    hub.publish("edge/v1/f/dev1/down/cmd", b"for dev1").wait(PATIENCE_S)
    assert [impostor.inbox.next().payload for _ in range(2)] == [b"for all", b"for dev1"]


def test_a_device_cannot_write_what_is_not_its_own(tls_link):
    """Others' `up`, its own `down`, and what goes to all: denied."""
    device = tls_link("dev1")
    for topic in ("edge/v1/f/dev2/up/telemetry", "edge/v1/f/dev1/down/desired", "edge/v1/f/_all/down/cmd"):
        with pytest.raises(LinkError) as caught:
            device.publish(topic, b"x").wait(PATIENCE_S)
        assert caught.value.code == "link-denied"


def test_a_subscriber_reads_telemetry_and_events_and_writes_nothing(tls_link):
    """Not `state`, not `down`, not what goes to all; and it is no device of its own name."""
    subscriber, device, hub = tls_link("subscriber"), tls_link("dev1"), tls_link("hub")
    for topic in ("#", "edge/v1/+/_all/down/#"):
        subscriber.subscribe(topic).result(PATIENCE_S)
    for topic in ("edge/v1/f/dev1/up/telemetry", "edge/v1/f/subscriber/up/telemetry", "edge/v1/f/dev1/down/cmd"):
        with pytest.raises(LinkError) as caught:
            subscriber.publish(topic, b"x").wait(PATIENCE_S)
        assert caught.value.code == "link-denied"
    hub.publish("edge/v1/f/_all/down/cmd", b"x").wait(PATIENCE_S)
    hub.publish("edge/v1/f/dev1/down/desired", b"x").wait(PATIENCE_S)
    for channel in ("state", "presence", "event", "telemetry"):
        device.publish(f"edge/v1/f/dev1/up/{channel}", b"x").wait(PATIENCE_S)
    assert [subscriber.inbox.next().topic.rsplit("/", 1)[1] for _ in range(2)] == ["event", "telemetry"]


def test_a_certificate_of_another_authority_is_refused(tls_link, fleet, tmp_path):
    """A rogue authority's certificate of the right name does not connect: `link-tls`, and nothing was online."""
    cert, key = Authority(tmp_path / "rogue", "rogue").issue("dev1")
    link = tls_link("dev1", tls=LinkTLS(ca=fleet.ca, cert=cert, key=key), wait=False)
    state = link.states.next()
    assert (state.online, state.error.code) == (False, "link-tls")


def test_no_certificate_is_refused(tls_link, fleet):
    """Trusting the broker is not enough."""
    state = tls_link("dev1", tls=LinkTLS(ca=fleet.ca), wait=False).states.next()
    assert (state.online, state.error.code) == (False, "link-tls")


def test_a_client_refuses_a_broker_of_another_authority(tls_link, fleet, tmp_path):
    """The client checks the broker as well."""
    cert, key = fleet.issue("dev9")
    rogue = Authority(tmp_path / "rogue", "rogue")
    state = tls_link("dev9", tls=LinkTLS(ca=rogue.ca, cert=cert, key=key), wait=False).states.next()
    assert (state.online, state.error.code) == (False, "link-tls")


def test_a_client_refuses_a_broker_of_another_name(port, fleet):
    """The certificate says 127.0.0.1; as `localhost` the same broker is not trusted."""
    states: queue.Queue = queue.Queue()
    with Link("localhost", port, "dev8", tls=fleet.client("dev8"), on_state=states.put, backoff=Backoff(base=60)):
        state = states.get(timeout=PATIENCE_S)
    assert (state.online, state.error.code) == (False, "link-tls")


def test_plain_tcp_does_not_get_in(tls_link, connect, port):
    """Without TLS nobody is served."""

    class Where:
        pass

    Where.port = port
    assert not connect(Where, "dev1", wait=False, connect_timeout=1).states.next().online


def test_beyond_loopback_needs_tls(tmp_path):
    """Mosquitto is not started open to the network."""
    with pytest.raises(ConfigError) as caught:
        start_mosquitto(tmp_path, listen="0.0.0.0")
    assert caught.value.code == "insecure-bind"


def test_a_broker_that_cannot_start_says_why(fleet, tmp_path, port):
    """A port in use ends in `broker-failed` with Mosquitto's words."""
    with pytest.raises(LinkError) as caught:
        start_mosquitto(tmp_path, port=port)
    assert caught.value.code == "broker-failed"
    assert "in use" in str(caught.value)
