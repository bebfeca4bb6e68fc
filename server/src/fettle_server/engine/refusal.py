"""Why an adapter is not served, beside what is wrong with its files."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """A closed list; the codes of a failed verification (RefusalCode) stand beside these."""

    BASE_MISMATCH = "BaseMismatch"
    CHECK_FAILED = "CheckFailed"
    """Reading failed for a reason that may pass; the next request for this adapter tries again."""
    DIGEST_MISMATCH = "DigestMismatch"
    FILE_CHANGED = "FileChanged"
    NOT_AN_ADAPTER = "NotAnAdapter"
    NOT_FINITE = "NotFinite"
    PATH_INVALID = "PathInvalid"
    QUANTISED_BASE = "QuantisedBase"
    RANK_TOO_LARGE = "RankTooLarge"
    REVISION_TAKEN = "RevisionTaken"
    SETTING_UNSUPPORTED = "SettingUnsupported"
    TOKENIZER_INVALID = "TokenizerInvalid"
    TOO_MANY_ADAPTERS = "TooManyAdapters"
    WEIGHTS_DO_NOT_FIT = "WeightsDoNotFit"


class RefusedAdapterError(Exception):
    """The adapter cannot be served; the message is for who asked for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = str(reason)
        self.message = message
