"""The errors that a user can cause or meet, each with a hint and an exit code.

    HubdpoError                 exit
    ├── ConfigError             2   an option, a YAML key, a missing argument
    │   └── UnsupportedBase     2   a base model that cannot be trained on
    ├── DataError               3   raw data that cannot be read or told apart
    ├── ArtefactError           3   a dataset or run folder that is incomplete or was edited
    ├── TrainingError           8   out of memory, a loss that is not finite
    │   └── ResumeMismatch      8   a resumed run whose configuration changed
    ├── MachineError            9   this machine refused: no room, no right, no memory, a limit
    └── HubError                4   the Hub refused, or its answer never came
        ├── NoSuchRevision      4   no branch, tag or commit of that name
        ├── VersionTaken        5   the tag exists with other content
        ├── VerificationFailed  6   what was downloaded is not what was uploaded
        └── LicenceError        7   the licence is unknown or forbids the release

Exit code 1 is left to bugs, which keep their traceback. Errors are raised where the facts are known and are caught
once, at the edge of the command line.
"""

from __future__ import annotations

from hubdpo.secrets import cleaned


class HubdpoError(Exception):
    """Say what is wrong in one sentence, and give the next thing to type in `hint`; credentials in either are cut."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = cleaned(message)
        self.hint = cleaned(hint) if hint is not None else None
        super().__init__(self.message)


class ConfigError(HubdpoError):
    exit_code = 2


class UnsupportedBase(ConfigError):
    pass


class DataError(HubdpoError):
    exit_code = 3


class ArtefactError(HubdpoError):
    exit_code = 3


class TrainingError(HubdpoError):
    exit_code = 8


class ResumeMismatch(TrainingError):
    pass


class MachineError(HubdpoError):
    exit_code = 9


class HubError(HubdpoError):
    exit_code = 4


class NoSuchRevision(HubError):
    pass


class VersionTaken(HubError):
    exit_code = 5


class VerificationFailed(HubError):
    exit_code = 6


class LicenceError(HubError):
    exit_code = 7


class BugElsewhere(Exception):
    """A bug in a process that this one launched; its text is the traceback there."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C in work that can be gone on with; `hint` is the command for it."""

    def __init__(self, hint: str) -> None:
        super().__init__("stopped")
        self.hint = cleaned(hint)
