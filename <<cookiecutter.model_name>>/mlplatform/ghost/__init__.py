"""Ghost mode (shadow deployment): the spool of events, the figures, the verdict and its report."""
