"""The style, charts and number formats that the reports on training and on ghost mode share."""
