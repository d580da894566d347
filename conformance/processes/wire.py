"""Sends whole messages over a stream socket, with deadlines, so that no peer can hang another."""

import contextlib
import socket
import struct
import time
from collections.abc import Sequence

_HEADER = struct.Struct("!Q")


def send(peer: socket.socket, message: bytes, deadline: float | None = None) -> None:
    """Sends one message.

    Raises:
        TimeoutError: if the peer has not taken all of it by the deadline.
        OSError: if the peer is gone.
    """
    peer.settimeout(_left(deadline))
    if len(message) < 1 << 16:  # This takes one system call for most questions and answers.
        peer.sendall(_HEADER.pack(len(message)) + message)
    else:
        peer.sendall(_HEADER.pack(len(message)))
        peer.sendall(message)


def receive(peer: socket.socket, deadline: float | None = None) -> bytearray:
    """Receives one message.

    Raises:
        TimeoutError: if it is not all here by the deadline.
        EOFError: if the peer closed its end.
        OSError: if the peer is gone.
    """
    return _exactly(peer, _HEADER.unpack(_exactly(peer, _HEADER.size, deadline))[0], deadline)


def send_with_descriptors(peer: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Sends one message together with copies of open descriptors."""
    peer.settimeout(None)
    socket.send_fds(peer, [_HEADER.pack(len(message))], descriptors)
    peer.sendall(message)


def receive_with_descriptors(peer: socket.socket, most: int) -> tuple[bytearray, list[int]]:
    """Receives one message and the descriptors that came with it, which this process now owns.

    Raises:
        EOFError: if the peer closed its end.
    """
    peer.settimeout(None)
    header, descriptors, _, _ = socket.recv_fds(peer, _HEADER.size, most)
    if not header:
        raise EOFError
    header += _exactly(peer, _HEADER.size - len(header), None)
    return _exactly(peer, _HEADER.unpack(header)[0], None), descriptors


def close_quietly(peer: socket.socket) -> None:
    """Closes a socket that another thread may be reading, which wakes that thread."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    peer.close()


def _exactly(peer: socket.socket, size: int, deadline: float | None) -> bytearray:
    whole = bytearray(size)
    rest = memoryview(whole)
    while rest:
        peer.settimeout(_left(deadline))
        received = peer.recv_into(rest)
        if not received:
            raise EOFError
        rest = rest[received:]
    return whole


def _left(deadline: float | None) -> float | None:
    # Zero would mean "do not block", which raises another error than being late.
    return None if deadline is None else max(1e-3, deadline - time.monotonic())
