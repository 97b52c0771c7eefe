"""A switch whose access ports are in one VLAN and whose trunk port carries its tag.

For kernels without VLAN devices. Arguments: the VLAN, the trunk port, the access ports. Says when it is ready, and
ends when its standard input does.
"""

import select
import socket
import struct
import sys

ETH_P_ALL = 3
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_AUXDATA, PACKET_IGNORE_OUTGOING = 263, 8, 23
# struct tpacket_auxdata: status, two lengths, two offsets, the tag and its type.
AUXDATA = struct.Struct("=IIIHHHH")
TP_STATUS_VLAN_VALID = 1 << 4

vlan, trunk = int(sys.argv[1]), sys.argv[2]
tag = struct.pack("!HH", 0x8100, vlan)
ports = {}
for name in sys.argv[2:]:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
    port.bind((name, ETH_P_ALL))
    ports[name] = port
learnt = {}
print("ready", flush=True)


def vlan_of(ancillary):
    """The VLAN that the kernel took from a frame; 0 if there was none."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, _ = AUXDATA.unpack(data[: AUXDATA.size])
            return tci & 0xFFF if status & TP_STATUS_VLAN_VALID else 0
    return 0


while True:
    readable, _, _ = select.select([sys.stdin, *ports.values()], [], [])
    if sys.stdin in readable:
        break
    for name, port in ports.items():
        if port not in readable:
            continue
        frame, ancillary, _, _ = port.recvmsg(65536, 256)
        # A trunk takes nothing without the right tag, an access port nothing with one.
        if vlan_of(ancillary) != (vlan if name == trunk else 0):
            continue
        learnt[frame[6:12]] = name
        to = learnt.get(frame[:6])
        for other in [to] if to else ports:
            if other != name:
                ports[other].send(frame[:12] + tag + frame[12:] if other == trunk else frame)
