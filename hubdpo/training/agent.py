"""torchrun, as `--num-processes` starts it: it ends with the process that asked for it, and without a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.run import main

from hubdpo.orphans import end_with_parent


def run() -> None:
    """Run torchrun with the arguments of this process; exit as a shell tells it when a signal ends it."""
    end_with_parent(os.getppid(), lambda: os.kill(os.getpid(), signal.SIGTERM))  # it then ends its processes
    for part in ("", ".agent.server.api"):  # the second has a level of its own
        logging.getLogger(f"torch.distributed.elastic{part}").setLevel(logging.ERROR)
    try:
        main(sys.argv[1:])
    except SignalException as ended:
        sys.exit(128 + ended.sigval)


if __name__ == "__main__":
    run()
