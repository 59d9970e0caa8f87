"""What teams declare: one folder a domain, only declarations."""
