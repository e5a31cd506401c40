"""Field checks, plug-ins and the errors of a config that does not compose."""
