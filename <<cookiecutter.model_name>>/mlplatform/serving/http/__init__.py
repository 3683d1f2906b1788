"""HTTP: the gunicorn worker, headers, bodies, compression."""
