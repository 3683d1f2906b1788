"""Ghost mode's report: what a model would have answered to real traffic, beside what the live one did answer."""
