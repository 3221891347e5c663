"""A loopback MQTT broker for demos and tests: QoS 0/1, retained, will, expiry; nothing more, never for production.

`wire`, `packets` and `codec` turn bytes into packets, `topics` matches, `session` and `broker` decide, `policy` says
who may do what; none of them touches a socket or a clock. `server` is the only room with I/O.
"""
