"""Memory given back: what is used again is there again."""

import sys
from pathlib import Path

import pytest

from ergonaut_gateway import memory

MAPS = """\
00400000-00401000 r--p 00000000 08:01 11 /usr/bin/python3.11
00401000-00409000 r-xp 00001000 08:01 11 /usr/bin/python3.11
7f00000000-7f00001000 rw-p 00000000 00:00 0 [heap]
7f10000000-7f10004000 r-xp 00002000 08:01 12 /lib/with a space.so
7f10004000-7f10005000 r--p 00006000 08:01 12 /lib/with a space.so
7f20000000-7f20001000 r-xp 00002000 08:01 13 /lib/replaced.so (deleted)
7f30000000-7f30001000 rwxp 00000000 00:00 0
7ffd000000-7ffd001000 r-xp 00000000 00:00 0 [vdso]
"""


def test_only_code_that_is_as_in_its_file_is_given_back() -> None:
    assert list(memory.code_of(MAPS)) == [(0x401000, 0x409000), (0x7F10000000, 0x7F10004000)]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process has in memory")
def test_a_process_that_gave_memory_back_goes_on_with_less_of_it() -> None:
    import numpy as np

    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident_bytes()
    memory.give_back()
    after = resident_bytes()
    assert np.array([1.0, 2.0]) @ np.array([3.0, 4.0]) == 11.0
    assert after < before
