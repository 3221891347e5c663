"""The hub hands out the signed document that is carried to a device without network."""

from __future__ import annotations

import pytest

from edgesdk.errors import EdgeError
from edgesdk.protocol.messages import DESIRED_TYPE, Desired, decode
from edgesdk.trust.dsse import verify_document


def test_the_document_of_a_device_is_the_signed_one(start_hub, enrol, site):
    """Before a deployment there is none; after it, it is what the hub signed for this device; revoked, it is gone."""
    hub = start_hub()
    device = enrol(hub)
    with pytest.raises(EdgeError) as nothing:
        hub.client.get(f"/devices/{device.id}/desired")
    assert nothing.value.code == "argument-invalid"
    hub.deploy("1.0.0", [device])
    envelope = hub.client.get(f"/devices/{device.id}/desired")
    document = decode(verify_document(envelope, DESIRED_TYPE, [site.folder.deployment_public]), Desired)
    assert (document.device, document.models["digits"].release) == (device.id, "1.0.0")
    hub.client.post(f"/devices/{device.id}/revoke")
    for gone in (device.id, "nobody"):
        with pytest.raises(EdgeError) as unknown:
            hub.client.get(f"/devices/{gone}/desired")
        assert unknown.value.code == "device-unknown"
