"""The benchmarks: what Flexmesh does a second beside a straight script of the same job, and beside peers."""
