"""Connectors are partners: programs that use the HTTP interface of an exchange and nothing else of it."""
