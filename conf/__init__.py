"""Declarations: settings, namespaces, sources, tables and jars. Nothing here acts."""
