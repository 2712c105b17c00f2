"""torchrun as `--num-processes` starts it: it ends with its parent, and reports a failure to it without a traceback."""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from hubdpo.machine.endings import AGENT, end_with_parent, leave_bug, leave_code, leave_error
from hubdpo.machine.refusals import machine_error


def run() -> None:
    """Run torchrun with the arguments of this process; exit with 128 + N, as shells do, when signal N ends it."""
    end_with_parent(os.getppid(), lambda: os.kill(os.getpid(), signal.SIGTERM))  # torchrun then ends its processes
    for module in ("", ".agent.server.api"):  # the second logger has a level of its own
        logging.getLogger(f"torch.distributed.elastic{module}").setLevel(logging.CRITICAL)
    try:
        main(sys.argv[1:])
    except SignalException as signalled:
        sys.exit(128 + signalled.sigval)
    except ChildFailedError as failure:
        first, _ = failure.get_first_failure()
        leave_code(first, failure.failures[first].exitcode)
        sys.exit(1)
    except Exception as error:
        refusal = machine_error(error)
        if not (leave_error(refusal, name=AGENT) if refusal else leave_bug(traceback.format_exc(), name=AGENT)):
            raise
        sys.exit(1)


if __name__ == "__main__":
    run()
