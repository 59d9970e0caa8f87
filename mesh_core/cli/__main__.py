"""`python -m mesh_core.cli`: the same as `mesh`."""

import sys

if __name__ == "__main__":
    try:
        from mesh_core.cli.main import main

        main()
    except KeyboardInterrupt:  # while modules are being imported; commands see to it themselves
        sys.exit(130)
