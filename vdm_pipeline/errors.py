"""What goes wrong by a user's doing: one sentence that names the place, the fault and the mend."""


class PipelineError(Exception):
    """Bad input, a missing upstream or a failed promise; the message is written for the user."""


class SettingsError(PipelineError):
    """A profile that cannot be used."""


class ArchiveError(PipelineError):
    """A data archive that cannot be used."""


class ModelError(PipelineError):
    """A model that is missing, not the pinned one, or not of the expected kind."""


class NetworkError(PipelineError):
    """A server that cannot be reached, or breaks off: the one fault that may be gone in a minute."""


class OutdatedError(PipelineError):
    """An upstream asset that is not as it would be made now."""
