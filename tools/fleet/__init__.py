"""Many devices: their events into one PostgreSQL, exactly once, over a broker cluster that fails. docs/fleet.md."""
