"""The engine of Flexmesh. It knows no domain and no web framework."""
