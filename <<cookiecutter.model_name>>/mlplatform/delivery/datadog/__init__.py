"""Dashboard, monitors and SLO in Datadog, and an event for each release."""
