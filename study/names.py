"""Names that the command line needs before anything else is imported."""

DEFAULT_STUDY = "digits-warmup"
INTERRUPTED_EXIT_CODE = 130
