"""The platform that every model repository shares: comes and changes with the template, not edited by the team."""
