"""torchrun, as `--num-processes` starts it: it ends with the process that asked for it, and leaves word of what
failed instead of a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from hubdpo.machine.endings import AGENT, leave_bug, leave_code, leave_error
from hubdpo.machine.orphans import end_with_parent
from hubdpo.machine.refusals import machine_error


def run() -> None:
    """Run torchrun with the arguments of this process; exit as a shell tells it when a signal ends it."""
    end_with_parent(os.getppid(), lambda: os.kill(os.getpid(), signal.SIGTERM))  # it then ends its processes
    for part in ("", ".agent.server.api"):  # the second has a level of its own
        logging.getLogger(f"torch.distributed.elastic{part}").setLevel(logging.CRITICAL)
    try:
        main(sys.argv[1:])
    except SignalException as ended:
        sys.exit(128 + ended.sigval)
    except ChildFailedError as failed:
        first, _ = failed.get_first_failure()
        leave_code(first, failed.failures[first].exitcode)
        sys.exit(1)
    except Exception as problem:
        told = machine_error(problem)
        if not (leave_error(told, name=AGENT) if told else leave_bug(traceback.format_exc(), name=AGENT)):
            raise
        sys.exit(1)


if __name__ == "__main__":
    run()
