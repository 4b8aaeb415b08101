"""Windlass beside its peers and beside the limits of the machine, measured in one run."""
