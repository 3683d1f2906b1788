"""Telling people what happened in the job, or waits for them."""
