"""The far end of an IP-in-IP tunnel: unpacks what arrives and hands it to its own stack.

For kernels without tunnel devices. Argument: 4 or 6, the version of both headers. Says when it is ready, and ends
when its standard input does.
"""

import select
import socket
import sys

IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_RAW = 4, 41, 255
SO_RCVBUFFORCE = 33

if sys.argv[1] == "4":
    family, carried, outer_bytes, destination = socket.AF_INET, IPPROTO_IPIP, 20, slice(16, 20)
else:
    # Here the kernel keeps the outer header to itself.
    family, carried, outer_bytes, destination = socket.AF_INET6, IPPROTO_IPV6, 0, slice(24, 40)
arriving = socket.socket(family, socket.SOCK_RAW, carried)
arriving.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
inside = socket.socket(family, socket.SOCK_RAW, IPPROTO_RAW)
print("ready", flush=True)

while True:
    readable, _, _ = select.select([sys.stdin, arriving], [], [])
    if sys.stdin in readable:
        break
    packet = arriving.recv(65536)[outer_bytes:]
    inside.sendto(packet, (socket.inet_ntop(family, packet[destination]), 0))
