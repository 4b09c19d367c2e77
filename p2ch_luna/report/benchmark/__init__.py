"""The figures of the networks on scans with known nodules."""
