"""Orders as they are before and after a change of their view, and a million of them whose values are known."""
