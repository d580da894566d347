"""Sends whole messages over a stream socket, with deadlines, so that no peer can hang another."""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Sequence

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 20
TOKEN_SIZE = 16


class GarbledError(Exception):
    """Something else than a message came, or a longer one than is allowed."""


def send(peer: socket.socket, message: bytes, deadline: float | None = None) -> None:
    """Sends one message.

    Raises:
        TimeoutError: if the peer has not taken all of it by the deadline.
        OSError: if the peer is gone.
    """
    peer.settimeout(_left(deadline))
    if len(message) < 1 << 16:  # This takes one system call for most questions and answers.
        peer.sendall(_LENGTH.pack(len(message)) + message)
    else:
        peer.sendall(_LENGTH.pack(len(message)))
        peer.sendall(message)


def receive(peer: socket.socket, deadline: float | None = None) -> bytes:
    """Receives one message from a peer that is trusted to say how long it is.

    Raises:
        TimeoutError: if it is not all here by the deadline.
        EOFError: if the peer closed its end.
        OSError: if the peer is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(peer, _LENGTH.size, deadline))
    return _exactly(peer, length, deadline)


def send_reply(peer: socket.socket, token: bytes, message: bytes) -> None:
    """Sends one message to a peer that trusts nobody: the token that it asked for comes first."""
    peer.settimeout(None)
    peer.sendall(token + _LENGTH.pack(len(message)))
    peer.sendall(message)


def receive_reply(peer: socket.socket, token: bytes, limit: int, deadline: float) -> bytes:
    """Receives one message from a process in which anything may have written to the socket.

    No memory is taken for bytes that have not come, whatever length is announced.

    Raises:
        GarbledError: if it does not begin with the token, or is longer than the limit.
        TimeoutError: if it is not all here by the deadline.
        EOFError: if the peer closed its end.
        OSError: if the peer is gone.
    """
    head = _exactly(peer, TOKEN_SIZE + _LENGTH.size, deadline, expected=token)
    (length,) = _LENGTH.unpack(head[TOKEN_SIZE:])
    if length > limit:
        raise GarbledError(f"it announced an answer of {length} bytes, {limit} at most are allowed")
    return _exactly(peer, length, deadline)


def send_with_descriptors(peer: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    """Sends one message together with copies of open descriptors."""
    peer.settimeout(None)
    socket.send_fds(peer, [_LENGTH.pack(len(message))], descriptors)
    peer.sendall(message)


def receive_with_descriptors(peer: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Receives one message and the descriptors that came with it, which this process now owns.

    Raises:
        EOFError: if the peer closed its end.
    """
    peer.settimeout(None)
    head, descriptors, _, _ = socket.recv_fds(peer, _LENGTH.size, most)
    if not head:
        raise EOFError
    head += _exactly(peer, _LENGTH.size - len(head), None)
    return _exactly(peer, _LENGTH.unpack(head)[0], None), descriptors


def is_readable(descriptor: int, timeout: float | None = 0.0) -> bool:
    """Says whether a descriptor can be read within this many seconds; None waits for ever."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def close_quietly(peer: socket.socket) -> None:
    """Closes a socket that another thread may be reading, which wakes that thread."""
    with contextlib.suppress(OSError):
        peer.shutdown(socket.SHUT_RDWR)
    peer.close()


def _exactly(
    peer: socket.socket, size: int, deadline: float | None, expected: bytes = b""
) -> bytes:
    """Receives so many bytes; those that are expected at their beginning, or GarbledError."""
    parts: list[bytes] = []
    left = size
    while left:
        peer.settimeout(_left(deadline))
        part = peer.recv(min(left, _CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
        if expected:
            whole = b"".join(parts)
            if not whole.startswith(expected[: len(whole)]):
                raise GarbledError("it wrote to the socket by which the suite asks it")
    return b"".join(parts)


def _left(deadline: float | None) -> float | None:
    # Zero would mean "do not block", which raises another error than being late.
    return None if deadline is None else max(1e-3, deadline - time.monotonic())
