"""The command `mesh`: one module a command group, each with `register(app)`.

A command module imports what it needs inside its commands, so that `mesh --help` stays quick.
"""
