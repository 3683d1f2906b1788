"""What is wrong with a source file as a whole."""


class BrokenFileError(Exception):
    """A file of records cannot be read to its end, or its header is wrong; the message is a clause about "the file"."""
