"""Ghost mode in the server: copies of requests to a ghost, and the events of both sides."""
