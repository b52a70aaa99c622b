"""The networks that the runtime ships, their input contracts, and their checks."""
