"""The systemd unit of the agent, hardened: it can write its own folder, talk to the network, and little else.

Left out on purpose: ``PrivateUsers`` (the kernel would not say which user an app is), ``MemoryDenyWriteExecute``
(runtimes compile kernels at run time), ``PrivateNetwork``, and the filters of ``@chown`` (the evidence socket's group)
and ``@resources`` (limits and affinity of the testing worker).
"""

from __future__ import annotations

UNIT = """\
[Unit]
Description=edgesdk device agent: signed model updates, tried before they are believed
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={program} run
Restart=always
RestartSec=2
WatchdogSec=60
TimeoutStopSec=15
KillMode=mixed
User={user}
Group={group}
StateDirectory=edge-agent
StateDirectoryMode=0755
ConfigurationDirectory=edge-agent
UMask=0022
Nice=5
OOMPolicy=continue
TasksMax=64

NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices={private_devices}
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit(program: str, *, user: str, group: str, accelerator: bool = False) -> str:
    """Render the unit.

    Args:
        program: Absolute path of `edge-agent`.
        user: Runs the agent; systemd gives it ``/var/lib/edge-agent``.
        group: Its group; apps that send evidence belong to it.
        accelerator: Let the testing worker see devices (GPU, NPU), at the cost of ``PrivateDevices``.
    """
    return UNIT.format(program=program, user=user, group=group, private_devices="no" if accelerator else "yes")
