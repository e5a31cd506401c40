"""Checks of config fields, plug-ins, and errors of composing a config."""
