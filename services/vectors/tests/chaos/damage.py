"""Damages what a node that was killed has saved: cuts a file off, or flips a bit of it."""

from pathlib import Path
from random import Random

DAMAGED = "saved state is damaged"
"""What its log says when it finds that."""


def damage(shard: Path, dice: Random) -> str | None:
    """Damage a file of a shard that counts; gives what was done, None where nothing was saved yet."""
    manifest = shard / "manifest"
    if not manifest.exists():
        return None
    # What a kill left behind is named by no manifest; it is swept away, and nobody is told.
    named = manifest.read_bytes()
    files = [manifest, *sorted(path for path in shard.glob("*.segment") if path.stem.encode() in named)]
    path = dice.choice(files)
    content = bytearray(path.read_bytes())
    at = dice.randrange(len(content))
    if dice.random() < 0.5:
        del content[at:]
        done = f"{path.name} cut off at byte {at}"
    else:
        content[at] ^= 1 << dice.randrange(8)
        done = f"a bit of byte {at} of {path.name} flipped"
    path.write_bytes(content)
    return f"{shard.name}: {done}"
