"""Training as a job of AWS Batch."""
