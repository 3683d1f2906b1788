"""A team's own hooks: a function in a module beside service.toml that gets the Flask application."""

from importlib import import_module

from flask import Flask


class HooksError(Exception):
    """The hooks that are set cannot be had; the message is one sentence for the operator."""


def add_hooks(app: Flask, place: str) -> None:
    """Call the function at `place`, module:function, with the application. Raises HooksError."""
    module_name, _, function_name = place.partition(":")
    setting = f"[serving] hooks is {place!r}"
    try:
        module = import_module(module_name)
    except Exception as error:
        raise HooksError(f"{setting}, and importing {module_name} failed: {type(error).__name__}: {error}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise HooksError(f"{setting}, and {module_name} has no function {function_name}")
    try:
        function(app)
    except Exception as error:
        raise HooksError(f"{setting}, and {function_name} failed: {type(error).__name__}: {error}") from error
