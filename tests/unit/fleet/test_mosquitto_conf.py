from pathlib import Path

import pytest

from edgesdk.errors import ConfigError
from edgesdk.fleet.mosquitto import BrokerTLS, render_acl, render_conf

TLS = BrokerTLS(ca=Path("/k/ca.pem"), cert=Path("/k/broker.pem"), key=Path("/k/broker.key"))


def conf(**changes):
    values = {"port": 8883, "listen": "0.0.0.0", "state_dir": Path("/s"), "acl_file": Path("/a"), "tls": TLS}
    return render_conf(**{**values, **changes}).splitlines()


def test_mutual_tls_binds_client_id_and_user_name_to_the_certificate():
    """The four lines without which a certificate may speak for another device are there, anonymous is off."""
    assert {
        "require_certificate true", "use_identity_as_username true", "use_username_as_clientid true",
        "allow_anonymous false", "acl_file /a", "autosave_on_changes true",
    } <= set(conf())  # fmt: skip


def test_without_tls_only_the_access_list_is_left():
    """The form for loopback names no certificate."""
    lines = conf(tls=None)
    assert "allow_anonymous true" in lines
    assert not any("certificate" in line or "file /k" in line for line in lines)


def test_a_user_is_named_only_when_asked():
    """`user` is a line only for root."""
    assert "user root" in conf(user="root")
    assert not any(line.startswith("user") for line in conf())


def test_a_line_break_cannot_add_a_line():
    """A path with a line break would be another setting: refused."""
    with pytest.raises(ConfigError) as caught:
        conf(acl_file=Path("/a\nallow_anonymous true"))
    assert caught.value.code == "config-invalid"


def test_each_named_process_has_its_block():
    """Several hubs and subscribers each get their own block; a subscriber is given no write."""
    text = render_acl(hubs=("hub", "hub.b"), subscribers=("subscriber.dash",))
    blocks = {block.splitlines()[0]: block for block in text.split("\n\n")[1:]}
    assert list(blocks) == ["user hub", "user hub.b", "user subscriber.dash"]
    assert "write" not in blocks["user subscriber.dash"]


@pytest.mark.parametrize("name", ["dev1", "hub\nuser x", "subscriber", "hub.", "#"])
def test_a_name_of_another_form_is_refused(name):
    """A hub's name cannot be a device's, nor smuggle lines in."""
    with pytest.raises(ConfigError):
        render_acl(hubs=(name,))
