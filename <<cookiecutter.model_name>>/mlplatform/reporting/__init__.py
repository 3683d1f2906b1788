"""What the reports on training and on ghost mode share: their look, their charts, and how two models are compared."""
