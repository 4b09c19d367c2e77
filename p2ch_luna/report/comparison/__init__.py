"""An earlier scan beside a later one."""
