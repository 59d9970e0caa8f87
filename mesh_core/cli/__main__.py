"""`python -m mesh_core.cli`: the same as `mesh`."""

from mesh_core.cli.main import main

if __name__ == "__main__":
    main()
