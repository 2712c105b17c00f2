"""Errors that a user can cause or meet, each with a hint and an exit code.

    HubdpoError                 exit
    ├── ConfigError             2   an option, a YAML key, a missing argument
    │   └── UnsupportedBase     2   a base model that cannot be trained on
    ├── DataError               3   raw data that cannot be read, or whose format is unknown
    ├── ArtefactError           3   a folder, a release or a model that is incomplete or was edited
    ├── TrainingError           8   out of memory, a loss that is not finite, or a process that ended
    │   └── ResumeMismatch      8   options of a resumed run have changed
    ├── MachineError            9   this machine: disk space, permissions, memory, limits
    ├── JudgeError             10   the judge of answers refused, or did not answer
    └── HubError                4   the Hub refused, or did not answer
        ├── NoSuchRevision      4   no such branch, tag or commit
        ├── VersionTaken        5   the tag exists with different content
        ├── VerificationFailed  6   files or log-probabilities are not those that were recorded
        └── LicenceError        7   the licence is unknown or forbids the release

Exit code 1 is reserved for bugs, which keep their traceback. Errors are raised where the facts are known, and caught
once, by the command line.
"""

from __future__ import annotations

from typing import Self

from hubdpo.secrets import cleaned


class Explained(BaseException):
    """An exception that a notebook shows as its message and its hint: the cell has the call, and the rest is ours."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}", *self.__notes__]


class Instead(str):
    """A hint that has another word for one that was typed, `after` a command that makes what it names.

    The command line shows it as the line that was typed, put right.
    """

    typed: str
    word: str
    after: str | None

    def __new__(cls, typed: str, word: str, *, after: str | None = None) -> Self:
        then = "" if word == typed else f", then give `{word}`"
        hint = super().__new__(cls, f"did you mean `{word}`?" if after is None else after + then)
        hint.typed, hint.word, hint.after = typed, word, after
        return hint


class HubdpoError(Explained, Exception):
    """An error with a one-sentence message, and a `hint` with the next thing to type; credentials are redacted."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = cleaned(message)
        self.hint = hint
        self.instead = hint if isinstance(hint, Instead) else None
        super().__init__(self.message)

    @property
    def hint(self) -> str | None:
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        self._hint = cleaned(hint) if hint is not None else None
        # Python prints the notes below a traceback, so that a script or notebook shows the hint as well
        self.__notes__ = [f"hint: {self._hint}"] if self._hint else []


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


class JudgeError(HubdpoError):
    exit_code = 10


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
    """A bug in a process that this process launched; the text is its traceback."""


class Stopped(Explained, KeyboardInterrupt):
    """Ctrl-C during work that can be continued; `hint` is the command for it."""

    def __init__(self, hint: str) -> None:
        super().__init__("stopped")
        self.hint = cleaned(hint)
        self.__notes__ = [f"hint: {self.hint}"]
