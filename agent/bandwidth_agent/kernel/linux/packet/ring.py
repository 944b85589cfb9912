"""One packet socket with a ring that the kernel and this process share: frames of one size, filled in order.

Owns the socket, the memory and the hand-over of frames; knows nothing of what is in a packet. Version 2 of the rings:
a frame is there when its packet has passed, while version 3 shows blocks of them when a timer has run out
(docs/design/0042-sampled-by-bytes-in-a-ring-that-shows-each-packet.md).

Made in the network namespace of the calling thread, used by one thread at a time. A device that goes, and one of its
name that comes back, is bound to again: no second socket is needed, which another thread might make elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import socket
import struct
import threading
from typing import NamedTuple

from bandwidth_agent.kernel.linux.packet import programs

FRAME_BYTES = 256
NETWORK_OFFSET = 80  # of the copied packet in its frame: the frame's header (52), and room for a link header (16)
_BLOCK_BYTES = max(1 << 14, mmap.PAGESIZE)  # four pages in a row are found in any memory
_FRAMES_PER_BLOCK = _BLOCK_BYTES // FRAME_BYTES

_SOL_PACKET = 263
_RX_RING, _STATISTICS, _VERSION = 5, 6, 10
_VERSION_2 = 1
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_ALL_PROTOCOLS = 0x0003
_LOOPBACK_PROTOCOL = 0x0060  # ETH_P_LOOP, which nothing sends: bound to it, a socket is in nobody's way

_REQUEST = struct.Struct("=IIII")  # bytes of a block, blocks, bytes of a frame, frames
_COUNTS = struct.Struct("=II")  # packets, drops

_FILLED = 1  # TP_STATUS_USER
_LOOK_AHEAD = 64  # frames whose status is read at a time
_WORDS = FRAME_BYTES // 4  # of a frame; its header begins with status, length, copied length


class Frames(NamedTuple):
    """Frames in the order in which their packets left. The memory holds until `Ring.release`."""

    starts: range  # in `Ring.memory`, of the copied packets
    lengths: list[int]  # of the packets from the IP header on
    copied: list[int]  # how much of each is there

    def __bool__(self) -> bool:
        return bool(self.lengths)


_NO_FRAMES = Frames(range(0), [], [])


class Ring:
    """A packet socket of the calling thread's namespace; sees nothing before `follow`."""

    def __init__(self, frames: int) -> None:
        """Room for so many frames or a few more. Raises OSError: EPERM without CAP_NET_RAW."""
        self._blocks = -(-frames // _FRAMES_PER_BLOCK)
        self.frames = self._blocks * _FRAMES_PER_BLOCK
        # Protocol 0: nothing arrives before the bind, which is after the filter.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        self._following = False
        self._next = 0
        self._barrier = threading.Lock()
        self.memory: mmap.mmap | bytes = b""
        self._words: memoryview | None = None

    def close(self) -> None:
        """Give memory and socket back. Idempotent."""
        self._socket.close()
        if self._words is not None:
            self._words.release()
            self._words = None
        if isinstance(self.memory, mmap.mmap):
            self.memory.close()
            self.memory = b""

    def follows(self, name: str) -> bool:
        """Return whether the socket is bound to the device that has this name now."""
        return self._following and self._socket.getsockname()[0] == name

    def follow(self, name: str, program: bytes) -> None:
        """See what leaves by this device, as far as the program takes it. Raises OSError: ENODEV if there is none."""
        if self._words is None:
            self._map()
        self.park()
        self.attach(program)
        self._socket.bind((name, _ALL_PROTOCOLS))
        self._following = True

    def park(self) -> None:
        """See nothing; what was seen stays."""
        if self._following:
            self._following = False
            self.attach(programs.none())
            with contextlib.suppress(OSError):  # there may be no device of this name: the program is enough
                self._socket.bind(("lo", _LOOPBACK_PROTOCOL))

    def attach(self, program: bytes) -> None:
        """Put this program in the place of the one before; each packet meets exactly one of them."""
        buffer = ctypes.create_string_buffer(program, len(program))
        description = struct.pack("@HP", len(program) // programs.INSTRUCTION_BYTES, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, description)

    def dropped(self) -> int:
        """Return how many packets found no room since the last call."""
        _, drops = _COUNTS.unpack(self._socket.getsockopt(_SOL_PACKET, _STATISTICS, _COUNTS.size))
        return int(drops)

    def filled(self) -> Frames:
        """Return the frames that are filled, up to the end of the ring's memory: call again after `release`."""
        words = self._words
        if words is None or not words[self._next * _WORDS] & _FILLED:
            return _NO_FRAMES
        last = self._last_filled(words)
        # What follows must be read after the status words: a lock is a barrier on every processor.
        with self._barrier:
            first = self._next * _WORDS
        end = last * _WORDS
        return Frames(
            range(self._next * FRAME_BYTES + NETWORK_OFFSET, last * FRAME_BYTES + NETWORK_OFFSET, FRAME_BYTES),
            words[first + 1 : end : _WORDS].tolist(),
            words[first + 2 : end : _WORDS].tolist(),
        )

    def shown(self, frames: Frames) -> memoryview:
        """Return whole frames, FRAME_BYTES each, as they lie in the memory; the view must be released before them."""
        begin, end = frames.starts.start - NETWORK_OFFSET, frames.starts.stop - NETWORK_OFFSET
        return memoryview(self.memory)[begin:end]

    def release(self, frames: Frames) -> None:
        """Give these frames, the last that `filled` returned, back to the kernel."""
        if not frames or self._words is None:
            return
        first, count = self._next * _WORDS, len(frames.lengths)
        with self._barrier:
            self._next = (self._next + count) % self.frames
        nothing = memoryview(bytes(4 * count)).cast("I")
        self._words[first : first + count * _WORDS : _WORDS] = nothing

    def _last_filled(self, words: memoryview) -> int:
        """The end of the filled frames from the next one on: one by one, as two processors fill two at a time."""
        position = self._next + 1
        while position < self.frames:
            end = min(position + _LOOK_AHEAD, self.frames)
            for status in words[position * _WORDS : end * _WORDS : _WORDS].tolist():
                if not status & _FILLED:
                    return position
                position += 1
        return position

    def _map(self) -> None:
        self._socket.setsockopt(_SOL_PACKET, _VERSION, _VERSION_2)
        request = _REQUEST.pack(_BLOCK_BYTES, self._blocks, FRAME_BYTES, self.frames)
        self._socket.setsockopt(_SOL_PACKET, _RX_RING, request)
        self.memory = mmap.mmap(self._socket.fileno(), self._blocks * _BLOCK_BYTES)
        self._words = memoryview(self.memory).cast("I")
