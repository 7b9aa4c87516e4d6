"""Makes the secrets of the local overlay where there are none yet: the same keys, users and rules that `ergonaut up` makes.

Run as `python deploy/local_secrets.py`; the files lie beside the overlay and git ignores them. The key for clients is client.key.
"""

import json
import sys
import tempfile
from pathlib import Path

from ergonaut.local.home import Home, write_json
from ergonaut.local.secrets import ensure_secrets, write_nats_config

OVERLAY = Path(__file__).parent / "k8s" / "overlays" / "local"

STORE_BYTES_MAX = 8 * 1024**3
"""What NATS may fill of its 10 GiB volume; JetStream breaks when a disk is full."""


def make_secrets(overlay: Path) -> None:
    """Put `secrets/` beside the overlay's kustomization, keeping what is there."""
    home = Home(overlay)
    ensure_secrets(home)
    with tempfile.TemporaryDirectory() as elsewhere:
        # Settings name a store on this machine and measure its disk; in the cluster it is the volume.
        home.data = Path(elsewhere)
        path = write_nats_config(home, "0.0.0.0:4222")
    config = json.loads(path.read_text())
    config["jetstream"] |= {"store_dir": "/data", "max_file_store": STORE_BYTES_MAX}
    write_json(path, config)
    path.chmod(0o600)


if __name__ == "__main__":
    make_secrets(Path(sys.argv[1]) if len(sys.argv) > 1 else OVERLAY)
