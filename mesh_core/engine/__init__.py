"""The loops: projector, deploy, check. They turn the log into rows."""
